#!/bin/sh
# Moves what is left in a queue of one Redis to the same queue of another, the oldest first: after a recall, the gray broker's messages
# to the formal one. Also what workers had taken and not done (QUEUE:taken:*).
#
#     drain.sh FROM TO QUEUE
#
# A message is there before it goes here: one that is moved twice is seen twice, and none is lost. Run one at a time, when nobody is
# connected to FROM any more, with its own address: drain.sh is no workload.
set -eu
from=$1 to=$2 queue=$3
moved=0
for list in $(redis-cli -e -h "$from" --scan --pattern "$queue:taken:*") "$queue"; do
    while message=$(redis-cli -e -h "$from" LINDEX "$list" -1) && [ -n "$message" ]; do
        redis-cli -e -h "$to" LPUSH "$queue" "$message" > /dev/null
        redis-cli -e -h "$from" LREM "$list" -1 "$message" > /dev/null
        moved=$((moved + 1))
    done
done
echo "$moved moved from $from to $to"
