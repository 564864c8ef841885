-- One row per recommendation with a higher score than the one before it from the same source.
with neighbours as (
    select
        user_id,
        rank,
        source,
        score,
        lag(score) over (partition by user_id, source order by rank) as score_before,
    from lists
),

rising as (
    select *
    from neighbours
    where score > score_before
)

select * from rising
