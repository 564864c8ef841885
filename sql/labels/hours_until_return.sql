-- Hours from an event to the user's next visit: the next session, or without sessions what follows a pause of 30 minutes.
-- One row per event of a user who came back, known from that moment on.
with
steps as (
    select
        user_id,
        event_order,
        event_at,
        lag(session_id) over by_order is distinct from session_id or (session_id is null and gap_seconds >= 1800) as begins,
    from events
    window by_order as (partition by user_id order by event_order)
),
numbered as (
    select
        user_id,
        event_order,
        event_at,
        count(*) filter (begins) over (partition by user_id order by event_order) as visit,
    from steps
),
visits as (
    select
        user_id,
        visit,
        min(event_at) as begins_at,
    from numbered
    group by user_id, visit
),
hours_until_return as (
    select
        numbered.user_id,
        numbered.event_order,
        (epoch_us(visits.begins_at) - epoch_us(numbered.event_at)) / 3.6e9 as hours_until_return,
        visits.begins_at as known_at,
    from numbered
    inner join visits
        on numbered.user_id = visits.user_id
        and numbered.visit + 1 = visits.visit
)
select * from hours_until_return
