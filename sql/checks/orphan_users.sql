-- One row per user that has events but is not in the declared users, where such events are more than features.max_orphan_share of all.
-- Is the users table as new as the events, and are its ids the same? If so many are unknown by nature, raise features.max_orphan_share.
with
orphans as (
    select
        user_id,
        count(*) as n_events,
    from stg_events
    anti join stg_users using (user_id)
    where getvariable('has_users')
    group by user_id
),
shares as (
    select
        user_id,
        n_events,
        sum(n_events) over () / (select count(*) from stg_events) as orphan_share,
    from orphans
),
orphan_users as (
    select * from shares
    where orphan_share > getvariable('max_orphan_share')
)
select * from orphan_users
