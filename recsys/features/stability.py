"""The population stability index: how differently a column's values are spread on two nights.

    PSI = Σ over bins of (a − e) · ln(a / e)        e: the share of the earlier night, a: of tonight

N. Siddiqi, Credit Risk Scorecards (2006): below 0.1 nothing, to 0.25 something, above it much has changed. Bins are made of
the earlier night: its 20 most frequent values and all others, or between its deciles where it has more than 20 numbers. Half
a row is added to every bin, so that an empty one has a logarithm.

Two samples of one population of n and m differ by chance: PSI · nm / (n + m) is then about χ² with one degree of freedom
less than there are bins, B (B. Yurdakul, Statistical Properties of Population Stability Index, 2018). `chance` is its mean and
three deviations, (B − 1 + 3 √(2 (B − 1))) · (1 / n + 1 / m). Of events n is the number of users: one's events are alike.
"""

from recsys.features.profile import LAST_DAY

MAX_VALUES = 20

# CTEs over the tables `profiles` and `days` (of several nights, with the night) and `watched` (table, column, has_spread). The
# last one, stabilities, has a row per night before as_of, table and column: stability, chance.
STABILITY = f"""
users as (
    select night, '{LAST_DAY}' as "table", users as n_users from days
    union all
    select night, 'events', rows from profiles where "table" = 'users' and "column" = 'user_id'
),
spreads as (
    select
        night, "table", "column", top, quantiles, rows - nulls as n,
        coalesce(list_sum(list_transform(top, lambda bin: bin.rows)), n) as n_values,
        least(n, n_users) as n_alike,
    from profiles semi join (from watched where has_spread) using ("table", "column") left join users using (night, "table")
    where n > 0
),
pairs as (
    select
        earlier.night, "table", "column", earlier as e, now as a,
        earlier.quantiles is null or coalesce(len(earlier.top) <= {MAX_VALUES}, false) as by_value,
    from spreads as earlier join spreads as now using ("table", "column")
    where earlier.night < getvariable('as_of') and now.night = getvariable('as_of')
),
values_tonight as (
    select "table", "column", bin.value, bin.rows as n_a
    from (select distinct "table", "column", unnest(top) as bin from spreads where night = getvariable('as_of'))
),
named_values as (
    select night, pairs."table", pairs."column", bin.rows as n_e, coalesce(n_a, 0) as n_a, e.n_values as all_e, a.n_values as all_a,
    from (select *, unnest(e.top[:{MAX_VALUES}]) as bin from pairs where by_value) as pairs
    left join values_tonight
        on pairs."table" = values_tonight."table" and pairs."column" = values_tonight."column" and bin.value = values_tonight.value
    where bin.value is not null
),
other_values as (
    select night, "table", "column", any_value(all_e) - sum(n_e) as n_e, any_value(all_a) - sum(n_a) as n_a
    from named_values group by all
),
numbers as (
    select night, "table", "column", list_distinct(e.quantiles[11:91:10]) as deciles, e.n as all_e, a.n as all_a,
        e.quantiles[2:] as percentiles_e, a.quantiles[2:] as percentiles_a,
    from pairs where not by_value
),
percentiles as (
    select night, "table", "column", deciles, all_e / 100 as n_e, 0 as n_a, unnest(percentiles_e) as number from numbers
    union all
    select night, "table", "column", deciles, 0 as n_e, all_a / 100 as n_a, unnest(percentiles_a) as number from numbers
),
between_deciles as (
    select night, "table", "column", sum(n_e) as n_e, sum(n_a) as n_a,
    from percentiles
    group by night, "table", "column", len(list_filter(deciles, lambda decile: decile < number))
),
bins as (
    select
        night, "table", "column",
        (n_e + 0.5) / sum(n_e + 0.5) over of_a_column as e,
        (n_a + 0.5) / sum(n_a + 0.5) over of_a_column as a,
    from (
        select night, "table", "column", n_e, n_a from named_values
        union all from other_values
        union all from between_deciles
    )
    where n_e + n_a > 0
    window of_a_column as (partition by night, "table", "column")
),
indexes as (
    select night, "table", "column", sum((a - e) * ln(a / e)) as stability, count(*) - 1 as freedom from bins group by all
),
stabilities as (
    select
        night, "table", "column", stability,
        (freedom + 3 * sqrt(2 * freedom)) * (1 / e.n_alike + 1 / a.n_alike) as chance,
    from indexes join pairs using (night, "table", "column")
)"""
