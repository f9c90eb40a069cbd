"""
A store that speaks S3 for tests: OpenStack Swift (Debian's python3-swift) with its own S3 API, which checks signatures
of AWS, version 4, and the sums that they cover. All parts of Swift are in this one process, on free ports of the
loopback, with one copy of each thing, in the folder that is given.

    /usr/bin/python3 s3_store.py FOLDER ACCOUNT:USER SECRET REGION BUCKET

Prints the port of the S3 API when it answers, and ends when stdin does.
"""
import os
import sys

import eventlet
import eventlet.wsgi
from swift.common import utils

utils.eventlet_monkey_patch()

from swift.common import wsgi  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.storage_policy import reload_storage_policies  # noqa: E402
from swift.common.swob import Request  # noqa: E402

PARTS = ('account', 'container', 'object')

PART = """[DEFAULT]
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
fallocate_reserve = 0
disable_fallocate = true
log_address = {folder}/log

[app:main]
use = egg:swift#{part}
"""

PROXY = """[DEFAULT]
swift_dir = {folder}
log_address = {folder}/log

[pipeline:main]
pipeline = catch_errors {doors} proxy-server

[filter:catch_errors]
use = egg:swift#catch_errors

[filter:s3api]
use = egg:swift#s3api
location = {region}

[filter:tempauth]
use = egg:swift#tempauth
user_{account}_{user} = {secret} .admin

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""


def main(folder, access_key_id, secret, region, bucket):
    account, user = access_key_id.split(':')
    wide = dict(folder=folder, region=region, account=account, user=user, secret=secret)
    written = lambda name, text: write(os.path.join(folder, name), text)
    utils.SWIFT_CONF_FILE = written('swift.conf', '[swift-hash]\nswift_hash_path_suffix = tests\n')
    utils.validate_hash_conf()
    reload_storage_policies()
    os.makedirs(os.path.join(folder, 'devices', 'disk'))
    for part in PARTS:
        socket = listen()
        ring = RingBuilder(1, 1, 0)
        port = socket.getsockname()[1]
        ring.add_dev(dict(id=0, region=1, zone=1, weight=1, ip='127.0.0.1', port=port, device='disk', meta=''))
        ring.rebalance()
        ring.get_ring().save(os.path.join(folder, f'{part}.ring.gz'))
        serve(socket, written(f'{part}.conf', PART.format(part=part, **wide)))
    # Within, where nobody asks for a signature.
    inside = wsgi.loadapp(written('inside.conf', PROXY.format(doors='', **wide)))
    made = Request.blank(f'/v1/AUTH_{account}/{bucket}', environ={'REQUEST_METHOD': 'PUT', 'swift_owner': True})
    answer = made.get_response(inside)
    if answer.status_int >= 300:
        sys.exit(f'{bucket}: {answer.status} {answer.body.decode()}')
    door = listen()
    serve(door, written('proxy.conf', PROXY.format(doors='s3api tempauth', **wide)))
    print(door.getsockname()[1], flush=True)
    while True:
        eventlet.hubs.trampoline(0, read=True)
        if not os.read(0, 1024):
            return


class Forgetful:
    """In the place of memcached."""

    def get(self, *_, **__):
        return None

    set = delete = incr = decr = set_multi = get


def write(path, text):
    with open(path, 'w') as file:
        file.write(text)
    return path


def listen():
    return eventlet.listen(('127.0.0.1', 0))


def serve(socket, conf):
    app = wsgi.loadapp(conf, global_conf={'log_name': os.path.basename(conf)})

    def mended(env, start_response):
        env['swift.cache'] = Forgetful()

        def start(status, headers, *more):
            # What has no length eventlet ends as chunks, also where there is no body; proxies before Swift mend that.
            if env['REQUEST_METHOD'] == 'HEAD' and not any(name.lower() == 'content-length' for name, _ in headers):
                headers = [*headers, ('Content-Length', '0')]
            return start_response(status, headers, *more)

        return app(env, start)

    how = dict(protocol=wsgi.SwiftHttpProtocol, capitalize_response_headers=False, socket_timeout=60)
    eventlet.spawn(eventlet.wsgi.server, socket, mended, utils.NullLogger(), **how)


if __name__ == '__main__':
    main(*sys.argv[1:])
