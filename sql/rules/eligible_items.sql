-- One row per item that may be recommended: by default, every one that had an event or is declared.
with
eligible_items as (
    select item_id from stg_items
    union
    select item_id from stg_events
)
select * from eligible_items
