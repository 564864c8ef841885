-- One row per user, item and event type of the seen window.
with
seen as (
    select
        shard,
        user_id,
        item_id,
        event_type,
        min(event_at) as first_event_at,
    from stg_events
    where coalesce(event_at >= getvariable('seen_start'), true)
    group by shard, user_id, item_id, event_type
)
select * from seen
