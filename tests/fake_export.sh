#!/bin/sh
# In place of pt2-export, for check_jobs: what it does is said by the file `behaviour` in the
# model's folder; each run leaves a line in `runs` there.
#   fake_export.sh --job MODEL -o FILE
dir=$2 out=$4
echo "$$" >> "$dir/runs"
progress() { echo "{\"progress\": {\"stage\": \"$1\", \"done\": $2, \"total\": 9}}"; }
case $(cat "$dir/behaviour") in
real) ;;
wait) # until the file `go` is there
    n=1
    while [ ! -e "$dir/go" ]; do
        progress weights "$n"
        n=$((n % 8 + 1))
        sleep 0.02
    done ;;
crash) kill -9 $$ ;;
crash-once) [ "$(wc -l < "$dir/runs")" -gt 1 ] || kill -9 $$ ;;
hang) exec sleep 1000 ;;
silent) exit 0 ;;
words)
    echo "pt2-export: the disk burns" >&2
    exit 3 ;;
garbage)
    echo '{"progress": '
    exec sleep 1000 ;;
other) echo '{"hello": 1}'; exec sleep 1000 ;;
long-line) exec tr '\0' x < /dev/zero ;;
half-line) printf '{"result": {"sha256"'; exit 0 ;;
refuse)
    echo '{"error": {"type": "/problems/not-exportable", "title": "t", "status": 422, "detail": "no"}}'
    exit 1 ;;
refuse-well) # an error, but a good end
    echo '{"error": {"type": "/problems/not-exportable", "title": "t", "status": 422, "detail": "no"}}'
    exit 0 ;;
no-file)
    echo '{"result": {"sha256": "'"$(printf '%064d' 0)"'", "bytes": 3, "deviations": []}}'
    exit 0 ;;
no-program)
    printf abc > "$out"
    echo '{"result": {"sha256": "'"$(printf '%064d' 0)"'", "bytes": 3, "deviations": []}}'
    exit 0 ;;
leaves) # something beside its file, and dies
    echo x > "$out.tmp-1"
    kill -9 $$ ;;
changes) # the checkpoint, while it is exported
    "$PT2_LIBEXEC/pt2-export" "$@"
    touch "$dir/config.json"
    exit 0 ;;
esac
exec "$PT2_LIBEXEC/pt2-export" "$@"
