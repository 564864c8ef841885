-- One row per user and item that must not be recommended to that user.
with
blocked as (
    select distinct
        users.shard,
        users.user_id,
        items.item_id,
    from blocked_pairs
    inner join users
        on blocked_pairs.user_id = users.user_id
    inner join items
        on blocked_pairs.item_id = items.item_id
)
select * from blocked
