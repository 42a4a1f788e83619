pragma page_size = 4096;
create table items (id integer primary key, name integer, body text);
create index by_name on items (name);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 12000)
  insert into items select i, (i * 7919) % 1000003, printf('%.700c', 'x') from n;
with recursive q(i) as (select 1 union all select i + 1 from q where i < 3000)
  select sum(length(body)) from q join items on name = (((i * i * 31) % 12000 + 1) * 7919) % 1000003;
update items set body = substr(body, 1, 300) where id % 3 = 0;
delete from items where id % 5 = 0;
select count(*), sum(length(body)) from items;
