-- One row per recommendation of an item that is not eligible tonight.
with ineligible as (
    select
        lists.user_id,
        lists.rank,
        lists.item_id,
    from lists
    anti join items
        on items.item_id = lists.item_id
        and items.eligible
)

select * from ineligible
