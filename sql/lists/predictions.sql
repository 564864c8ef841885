-- One row per prediction of somebody unknown, without a finite value, or made twice.
with counted as (
    select
        predictions.user_id,
        predictions.head,
        predictions.class,
        predictions.value,
        count(*) over (partition by predictions.user_id, predictions.head, predictions.class) as times,
        predictions.user_id in (select user_id from users) as is_known,
    from predictions
),

wrong as (
    select * from counted
    where times > 1 or not coalesce(is_known, false) or not coalesce(isfinite(value), false)
)

select * from wrong
