-- One row per user that had an event (in the history or seen window) or is declared.
with
activity as (
    select
        user_id,
        count(*) as n_events,
        min(event_at) as first_event_at,
        max(event_at) as last_event_at,
    from events
    group by user_id
),
known as (
    select shard, user_id from stg_users
    union
    select shard, user_id from stg_events
),
users as (
    select
        known.shard,
        known.user_id,
        stg_users.* exclude (shard, user_id),
        coalesce(n_events, 0) as n_events,
        first_event_at,
        last_event_at,
    from known
    left join stg_users
        on known.user_id = stg_users.user_id
    left join activity
        on known.user_id = activity.user_id
)
select * from users
