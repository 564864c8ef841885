-- One row per user without a list, although there are items left to recommend.
with forgotten as (
    select
        users.user_id,
        users.n_items_left,
    from users
    anti join lists
        on lists.user_id = users.user_id
    where users.n_items_left > 0
)

select * from forgotten
