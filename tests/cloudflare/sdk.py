"""Cloudflare's own SDK against the stand-in, with strict validation of every reply: sdk.py ZONE

CLOUDFLARE_BASE_URL and CLOUDFLARE_API_TOKEN say where and who. It fails at the first reply that the SDK does not take.
"""

import sys

import cloudflare

apex = sys.argv[1]
api = cloudflare.Cloudflare(_strict_response_validation=True, max_retries=0)


def listed(**filters):
    return list(api.dns.records.list(zone_id=zone.id, type="TXT", **filters))


def refused(call, status, code):
    try:
        call()
    except cloudflare.APIStatusError as error:
        body = error.response.json()
        assert error.status_code == status, error
        assert [it["code"] for it in body["errors"]] == [code], body
        assert body["success"] is False and body["result"] is None, body
        return
    raise AssertionError(f"not refused with {code}")


# Zones: by name, page by page, and none.
(zone,) = api.zones.list(name=apex)
assert zone.name == apex and len(zone.name_servers) == 2 and zone.account.id, zone
assert list(api.zones.list(name="nobody.invalid")) == []
assert apex in [it.name for it in api.zones.list(per_page=5)]

# One record: made, found in each way, read, removed.
name = f"_acme-challenge.{apex}"
new = {"type": "TXT", "name": name, "ttl": 60, "comment": "countersign"}
made = api.dns.records.create(zone_id=zone.id, content='"value"', **new)
assert (made.name, made.content, made.ttl, made.comment) == (name, '"value"', 60, "countersign"), made
for filters in (
    {"name": {"exact": name.upper()}},
    {"name": {"startswith": "_acme-", "endswith": f".{apex}"}},
    {"content": {"exact": '"VALUE"'}},
    {"comment": {"startswith": "countersign"}},
):
    assert [it.id for it in listed(**filters)] == [made.id], filters
for filters in ({"name": {"exact": apex}}, {"name": {"startswith": "acme"}}, {"content": {"exact": "value"}}):
    assert listed(**filters) == [], filters
assert api.dns.records.get(made.id, zone_id=zone.id).id == made.id
refused(lambda: api.dns.records.create(zone_id=zone.id, content='"value"', **new), 400, 81058)
refused(lambda: api.dns.records.create(zone_id=zone.id, content='"v"', **{**new, "ttl": 59}), 400, 1004)
assert api.dns.records.delete(made.id, zone_id=zone.id).id == made.id
refused(lambda: api.dns.records.delete(made.id, zone_id=zone.id), 404, 81044)
refused(lambda: api.dns.records.list(zone_id="not-an-id"), 404, 7003)
refused(lambda: api.dns.records.list(zone_id="0" * 32), 403, 10000)

# A batch: removals, patches, replacements, new ones, in this order and as one.
first = api.dns.records.batch(zone_id=zone.id, posts=[{**new, "content": f'"{n}"'} for n in range(3)])
assert len(first.posts) == 3 and not first.deletes, first
zero, one, two = first.posts
second = api.dns.records.batch(
    zone_id=zone.id,
    posts=[{**new, "content": '"0"'}, {**new, "content": '"1"'}],
    puts=[{**new, "id": two.id, "content": '"two"'}],
    patches=[{"id": one.id, "content": '"one"', "name": name, "type": "TXT", "ttl": 60}],
    deletes=[{"id": zero.id}],
)
shapes = [len(part) for part in (second.deletes, second.patches, second.puts, second.posts)]
assert shapes == [1, 1, 1, 2], second
there = sorted(it.content for it in listed())
assert there == ['"0"', '"1"', '"one"', '"two"'], there
refused(
    lambda: api.dns.records.batch(
        zone_id=zone.id,
        deletes=[{"id": one.id}],
        posts=[{**new, "content": '"new"'}, {**new, "content": '"0"'}],
    ),
    400,
    81058,
)
assert sorted(it.content for it in listed()) == there, "a batch that fails changes nothing"
assert len(listed(per_page=1)) == 4, "page by page"
api.dns.records.batch(zone_id=zone.id, deletes=[{"id": it.id} for it in listed()])
assert listed() == []

# Tokens.
stranger = cloudflare.Cloudflare(api_token="a-token-that-nobody-knows-0123456789abcdefg", max_retries=0)
refused(lambda: stranger.zones.list(name=apex), 403, 9109)
broken = cloudflare.Cloudflare(api_token="short", max_retries=0)
refused(lambda: broken.zones.list(name=apex), 400, 6003)
print("all is as the SDK wants it")
