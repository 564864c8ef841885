-- One row per recommendation without a finite score.
with infinite as (
    select
        user_id,
        rank,
        item_id,
        score,
    from lists
    where not coalesce(isfinite(score), false)
)

select * from infinite
