"""Every bound has a name here, and bounds that depend on each other say so in code.

Operators change some of them by settings of the same name in lower case; none is unbounded.
"""

from typing import Final

# A name of a model, a service or a topic: [a-z0-9][a-z0-9._-]{0,99}
NAME_LENGTH_MAX: Final = 100

CORRELATION_ID_BYTES_MAX: Final = 128

# Kafka bounds a record, not its headers: a thousand tiny headers cost more to read than the body.
HEADERS_MAX: Final = 64
HEADER_VALUE_BYTES_MAX: Final = 4_096

# A broker takes records of 1 MiB by default; headers and framing need the difference.
RECORD_BYTES_MAX: Final = 1_048_588
REQUEST_BYTES_MAX: Final = 1_000_000
REPLY_BYTES_MAX: Final = 1_000_000
assert REQUEST_BYTES_MAX + HEADERS_MAX * 512 < RECORD_BYTES_MAX

# A dead letter is a record of full size and what the worker adds; broker/topics.toml says the same.
DEAD_LETTER_BYTES_MAX: Final = RECORD_BYTES_MAX + 65_536

REQUEST_ROWS_MAX: Final = 1_024

# A JSON body becomes Python objects: x33 at worst for empty lists (measured), so depth and counts
# are bounded beside the bytes.
JSON_DEPTH_MAX: Final = 32
TENSORS_MAX: Final = 64
AXES_MAX: Final = 16

# One batch: what the model runs on at once.
BATCH_ROWS_MAX: Final = 256
BATCH_BYTES_MAX: Final = 8_000_000
assert REQUEST_BYTES_MAX <= BATCH_BYTES_MAX, "a request that is accepted must fit a batch"

# A body that is kept in an object store; it must fit a batch like any other.
CLAIM_BYTES_MAX: Final = BATCH_BYTES_MAX
CLAIM_EXPIRES_SECONDS: Final = 86_400
# How many requests wait in a worker for bodies from the store, and how many are read at once.
CLAIMS_WAITING_MAX: Final = 256
CLAIM_READERS: Final = 4
# How many bodies a client writes to the store at once.
CLAIM_WRITERS: Final = 4
# How many it deletes at once; beyond, objects are left to the store's own rule for old ones.
CLAIM_DELETES_MAX: Final = 64

# What waits in a worker's memory: when it is full, partitions pause and polling goes on.
QUEUE_ROWS_MAX: Final = 4 * BATCH_ROWS_MAX
QUEUE_BYTES_MAX: Final = 4 * BATCH_BYTES_MAX
assert QUEUE_ROWS_MAX >= REQUEST_ROWS_MAX, "a request that is accepted must fit the queue"
assert QUEUE_BYTES_MAX >= 2 * BATCH_BYTES_MAX, "one batch runs while the next one gathers"

FETCH_RECORDS_MAX: Final = 512

# Processes of one supervisor: each is a consumer of its own, and is asked at each scrape.
PROCESSES_MAX: Final = 64

# How rarely a worker may say that it is there, and how much: each client holds all of it.
ANNOUNCE_SECONDS_MAX: Final = 300
ANNOUNCEMENT_BYTES_MAX: Final = 65_536
ANNOUNCED_WORKERS_MAX: Final = 10_000
ANNOUNCED_BYTES_MAX: Final = 33_554_432

# What one client awaits at the same time.
PENDING_MAX: Final = 10_000

# A redriven request says how often it came back; services could claim any number.
REDRIVE_ATTEMPTS_MAX: Final = 1_000
