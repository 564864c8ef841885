-- One row per list whose length is not min(k, items left to recommend).
with lengths as (
    select
        user_id,
        count(*) as n_listed,
    from lists
    group by user_id
),

expected as (
    select
        lengths.user_id,
        lengths.n_listed,
        least(users.n_items_left, getvariable('k')) as n_expected,
    from lengths
    join users
        on users.user_id = lengths.user_id
),

wrong as (
    select *
    from expected
    where n_listed <> n_expected
)

select * from wrong
