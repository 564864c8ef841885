-- Whether the user's next event is a purchase (1 or 0). One row per event that was followed by another, known from that one on.
with
following as (
    select
        user_id,
        event_order,
        lead(event_type) over by_order as next_type,
        lead(event_at) over by_order as next_at,
    from events
    window by_order as (partition by user_id order by event_order)
),
purchased as (
    select
        user_id,
        event_order,
        (next_type = 'purchase')::bigint as purchased,
        next_at as known_at,
    from following
    where next_at is not null
)
select * from purchased
