-- One row per item that has events but is not in the declared items, where such events are more than features.max_orphan_share of all.
-- Is the items table as new as the events, and are its ids the same? If so many are unknown by nature, raise features.max_orphan_share.
with
orphans as (
    select
        item_id,
        count(*) as n_events,
    from stg_events
    anti join stg_items using (item_id)
    where getvariable('has_items')
    group by item_id
),
shares as (
    select
        item_id,
        n_events,
        sum(n_events) over () / (select count(*) from stg_events) as orphan_share,
    from orphans
),
orphan_items as (
    select * from shares
    where orphan_share > getvariable('max_orphan_share')
)
select * from orphan_items
