#!/usr/bin/env bash
# The world of the README's tour, by hand: a client, an edge, and two web servers that say their version, each in a
# network namespace of its own. `tour.sh up` makes it, `tour.sh down` removes it. Needs root, iproute2 and nginx.
#
#   gray-client            gray-edge              gray-v1  198.18.2.2:8080  version 1.0
#   198.18.1.2, .3 --c0-- e0      v1 --b0-------- gray-v2  198.18.2.3:8080  version 2.0
#                                 v2 --b0--------
# Nobody has 198.18.1.100, the address that clients dial: only steering makes it answer.
set -euo pipefail

spaces="gray-client gray-edge gray-v1 gray-v2"
dir=/run/gray-tour

# A veth pair between the edge and another namespace, both ends with one host address and a route to the other's.
wire() { # NAMESPACE ITS-END ITS-ADDRESS EDGE-END EDGE-ADDRESS
    ip link add "$4" netns gray-edge type veth peer name "$2" netns "$1"
    ip -n gray-edge address add "$5/32" dev "$4"
    ip -n gray-edge link set "$4" up
    ip -n gray-edge route add "$3/32" dev "$4"
    ip -n "$1" address add "$3/32" dev "$2"
    ip -n "$1" link set "$2" up
    ip -n "$1" link set lo up
    ip -n "$1" route add "$5/32" dev "$2"
    ip -n "$1" route add default via "$5"
}

serve() { # NAMESPACE VERSION
    mkdir -p "$dir/$1"
    cat > "$dir/$1/nginx.conf" <<END
pid $dir/$1/pid;
error_log $dir/$1/error.log;
events {}
http {
    access_log off;
    client_body_temp_path $dir/$1/t1; proxy_temp_path $dir/$1/t2; fastcgi_temp_path $dir/$1/t3;
    uwsgi_temp_path $dir/$1/t4; scgi_temp_path $dir/$1/t5;
    server { listen 8080; location / { return 200 "version $2\n"; } }
}
END
    ip netns exec "$1" nginx -c "$dir/$1/nginx.conf"
}

up() {
    for n in $spaces; do ip netns add "$n"; done
    ip -n gray-edge link set lo up
    wire gray-client c0 198.18.1.2 e0 198.18.1.1
    ip -n gray-client address add 198.18.1.3/32 dev c0
    ip -n gray-edge route add 198.18.1.3/32 dev e0
    wire gray-v1 b0 198.18.2.2 v1 198.18.2.1
    wire gray-v2 b0 198.18.2.3 v2 198.18.2.1
    # The edge is a router; gray looks routes up as a router does.
    ip netns exec gray-edge sysctl -qw net.ipv4.ip_forward=1
    serve gray-v1 1.0
    serve gray-v2 2.0
}

down() {
    for pid in "$dir"/*/pid; do [ -e "$pid" ] && kill "$(cat "$pid")"; done
    for n in $spaces; do ip netns del "$n" 2> /dev/null || true; done
    rm -rf "$dir"
}

case "${1:-}" in
    up) up ;;
    down) down ;;
    *) echo "usage: $0 up|down" >&2; exit 2 ;;
esac
