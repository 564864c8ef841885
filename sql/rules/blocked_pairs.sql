-- One row per user and item that must not be recommended to that user: by default, none.
with
blocked_pairs as (
    select
        user_id,
        item_id,
    from stg_events
    where false
)
select * from blocked_pairs
