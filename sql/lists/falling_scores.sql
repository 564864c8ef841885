-- One row per recommendation with a higher score than the one before it from the same source.
with neighbours as (
    select
        user_id,
        rank,
        source,
        score,
        lag(score) over (partition by user_id, source order by rank) as score_before,
    from lists
    -- What is popular in the user's segment goes on with what is popular with everybody: counts of another scale.
    where source = getvariable('source') or not getvariable('segmented')
),

rising as (
    select *
    from neighbours
    where score > score_before
)

select * from rising
