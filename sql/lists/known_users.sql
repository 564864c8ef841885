-- One row per list of somebody who is not among tonight's users.
with strangers as (
    select distinct
        lists.user_id,
    from lists
    anti join users
        on users.user_id = lists.user_id
)

select * from strangers
