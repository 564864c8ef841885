-- One row per item that stands in a user's list more than once.
with repeated as (
    select
        user_id,
        item_id,
        count(*) as times,
    from lists
    group by user_id, item_id
    having times > 1
)

select * from repeated
