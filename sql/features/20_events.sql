-- One row per distinct event of the history window, with what was known at it.
with
histories as (
    select
        shard,
        user_id,
        item_id,
        event_at,
        row_number() over by_time - 1 as event_order,
        lag(event_at) over by_time as previous_event_at,
        * exclude (shard, user_id, item_id, event_at, source_order, declared_order),
    from stg_events
    where coalesce(event_at >= getvariable('history_start'), true)
    window by_time as (partition by user_id order by event_at, declared_order, source_order)
),
first_events as (
    select
        item_id,
        min(event_at) as first_event_at,
    from histories
    group by item_id
),
-- Before the join, since few items have events in an hour and many have had some in the week before it.
activity as (
    select item_activity.*
    from item_activity
    semi join histories
        on item_activity.item_id = histories.item_id
        and item_activity.hour_at = date_trunc('hour', histories.event_at)
),
events as (
    select
        histories.* exclude (previous_event_at),
        hour(event_at) as hour,
        isodow(event_at) as weekday,
        (epoch_us(event_at) - epoch_us(previous_event_at)) / 1e6 as gap_seconds,
        event_order as user_events_before,
        (epoch_us(event_at) - epoch_us(first_event_at)) / 1e6 as item_age_seconds,
        coalesce(events_10m, 0) as item_events_10m,
        coalesce(events_1h, 0) as item_events_1h,
        coalesce(events_6h, 0) as item_events_6h,
        coalesce(events_1d, 0) as item_events_1d,
        coalesce(events_7d, 0) as item_events_7d,
    from histories
    inner join first_events
        on histories.item_id = first_events.item_id
    left join activity
        on histories.item_id = activity.item_id
        and date_trunc('hour', histories.event_at) = activity.hour_at
)
select * from events
