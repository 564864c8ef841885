-- One row per item and full hour, up to as_of, with an event in the 7 days before the hour.
with
hourly as (
    select
        item_id,
        date_trunc('hour', event_at) as hour_at,
        count(*) filter (minute(event_at) >= 50) as n_late,
        count(*) as n_events,
    from stg_events
    where event_at >= getvariable('history_start')
    group by item_id, date_trunc('hour', event_at)
),
-- An hour's events enter every window at its end, and leave a window of w hours w hours later. The 10 minutes before a full hour
-- are seen at that hour only.
changes as (
    select
        item_id, hour_at + to_hours(1) as hour_at,
        n_late as in_10m, n_events as in_1h, n_events as in_6h, n_events as in_1d, n_events as in_7d,
    from hourly
    union all
    select item_id, hour_at + to_hours(1 + 1), -n_late, -n_events, 0, 0, 0 from hourly
    union all
    select item_id, hour_at + to_hours(1 + 6), 0, 0, -n_events, 0, 0 from hourly
    union all
    select item_id, hour_at + to_hours(1 + 24), 0, 0, 0, -n_events, 0 from hourly
    union all
    select item_id, hour_at + to_hours(1 + 168), 0, 0, 0, 0, -n_events from hourly
),
net_changes as (
    select
        item_id,
        hour_at,
        sum(in_10m) as in_10m,
        sum(in_1h) as in_1h,
        sum(in_6h) as in_6h,
        sum(in_1d) as in_1d,
        sum(in_7d) as in_7d,
    from changes
    where hour_at <= getvariable('as_of')
    group by item_id, hour_at
),
counts as (
    select
        item_id,
        hour_at,
        lead(hour_at, 1, date_trunc('hour', getvariable('as_of')) + to_hours(1)) over by_time as until_at,
        sum(in_10m) over by_time as events_10m,
        sum(in_1h) over by_time as events_1h,
        sum(in_6h) over by_time as events_6h,
        sum(in_1d) over by_time as events_1d,
        sum(in_7d) over by_time as events_7d,
    from net_changes
    window by_time as (partition by item_id order by hour_at)
),
item_activity as (
    select
        item_id,
        unnest(range(hour_at, until_at, to_hours(1))) as hour_at,
        events_10m::integer as events_10m,
        events_1h::integer as events_1h,
        events_6h::integer as events_6h,
        events_1d::integer as events_1d,
        events_7d::integer as events_7d,
    from counts
    where events_7d > 0
)
select * from item_activity
