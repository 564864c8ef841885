-- One row per recommendation from anything but what was decided on and the popular items that fill it up.
with others as (
    select
        user_id,
        rank,
        item_id,
        source,
    from lists
    where coalesce(source, '') not in (getvariable('source'), 'popular_lately', 'popular')
)

select * from others
