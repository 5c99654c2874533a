#!/bin/sh
# In place of pt2-export, for check_jobs: what it does is said by the file `behaviour` in the
# model's folder; each run leaves a line in `runs` there.
#   fake_export.sh --job MODEL -o FILE
#   fake_export.sh --verify-job FILE    as `verifying` in the folder $FAKE_MODEL says
dir=$2 out=$4
[ "$1" = --job ] || dir=$FAKE_MODEL out=$2
echo "$$" >> "$dir/runs"
progress() { echo "{\"progress\": {\"stage\": \"$1\", \"done\": $2, \"total\": 9}}"; }
if [ "$1" = --verify-job ]; then
    progress verifying 1
    case $(cat "$dir/verifying") in
    good) ;;
    wait) while [ ! -e "$dir/go" ]; do sleep 0.02; done ;;
    wrong)
        echo '{"error": {"type": "/problems/verification-failed", "title": "t", "status": 500, "detail": "by 3"}}'
        exit 1 ;;
    crash) kill -9 $$ ;;
    hang) exec sleep 1000 ;;
    nothing) echo '{"result": {}}'; exit 0 ;;
    esac
    cat > "$dir/asked"
    printf '{"result": {"sha256": "%s", "bytes": %d, "verify": {"tokens": 4}}}\n' \
        "$(sha256sum < "$out" | cut -c 1-64)" "$(wc -c < "$out")"
    exit 0
fi
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
