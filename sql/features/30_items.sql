-- One row per item that had an event (in the history or seen window) or is declared.
with
activity as (
    select
        item_id,
        min(event_at) as first_event_at,
        max(event_at) as last_event_at,
        count(*) as n_events,
    from events
    group by item_id
),
known as (
    select item_id from stg_items
    union
    select item_id from stg_events
),
items as (
    select
        known.item_id,
        stg_items.* exclude (item_id),
        first_event_at,
        last_event_at,
        coalesce(n_events, 0) as n_events,
        known.item_id in (select item_id from eligible_items) as eligible,
    from known
    left join stg_items
        on known.item_id = stg_items.item_id
    left join activity
        on known.item_id = activity.item_id
)
select * from items
