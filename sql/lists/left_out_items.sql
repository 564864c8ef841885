-- One row per recommendation of an item that the user has seen or must not get.
with forbidden as (
    select
        lists.user_id,
        lists.rank,
        lists.item_id,
        string_agg(left_out.reason, ' and ' order by left_out.reason) as reason,
    from lists
    join items
        on items.item_id = lists.item_id
    join left_out
        on left_out.user_id = lists.user_id
        and left_out.item_code = items.item_code
    group by lists.user_id, lists.rank, lists.item_id
)

select * from forbidden
