-- One row per list whose ranks are not 1, 2, 3 … without gaps.
with ranks as (
    select
        user_id,
        count(*) as n_listed,
        count(distinct rank) as n_ranks,
        min(rank) as first_rank,
        max(rank) as last_rank,
    from lists
    group by user_id
),

wrong as (
    select *
    from ranks
    where (n_ranks, first_rank, last_rank) is distinct from (n_listed, 1, n_listed)
)

select * from wrong
