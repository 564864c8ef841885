-- The last 24 hours before as_of, where they have fewer events than features.min_day_volume of the median of up to 7 days before.
-- Is the day's data complete? If the drop is real, lower features.min_day_volume (0 turns the check off).
with
daily as (
    select
        (epoch_us(getvariable('as_of')) - epoch_us(event_at) - 1) // 86_400_000_000 as days_ago,
        count(*) as n_events,
    from stg_events
    where event_at is not null
    group by days_ago
),
-- Days without events count, from the first day that has some.
days as (
    select
        days_ago,
        coalesce(n_events, 0) as n_events,
    from (select unnest(range(least(8, (select max(days_ago) from daily) + 1))) as days_ago)
    left join daily using (days_ago)
),
volumes as (
    select
        max(n_events) filter (days_ago = 0) as n_events,
        median(n_events) filter (days_ago > 0) as median_before,
        getvariable('min_day_volume') as min_share,
    from days
),
low_day_volume as (
    select * from volumes
    where n_events < min_share * median_before
)
select * from low_day_volume
