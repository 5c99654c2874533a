#!/bin/sh
# check_export_cmd.sh - pt2-export as a command and as a worker: statuses, what it prints, and
# that a failed export leaves nothing behind.
set -u
model=$srcdir/share/models/demo
export=$PT2_LIBEXEC/pt2-export
dir=$(mktemp -d /tmp/pt2-cmd-XXXXXX) || exit 99
trap 'rm -rf "$dir"' EXIT
failed=0

# expect STATUS TEXT COMMAND...: the status, and the text in what it prints on either side
expect() {
    want=$1 text=$2
    shift 2
    "$@" >"$dir/log" 2>&1
    status=$?
    if [ $status -ne "$want" ] || ! grep -qF -e "$text" "$dir/log"; then
        echo "FAIL: $*: status $status, not $want, or no '$text' in:"
        cat "$dir/log"
        failed=1
    fi
}

# nothing but the log and what was named
only() {
    left=$(ls -A "$dir" | grep -v '^log$' | tr '\n' ' ')
    [ "$left" = "$1" ] || { echo "FAIL: left in the folder: '$left', not '$1'"; failed=1; }
}

expect 0 '--dynamic-shapes' "$export" --help
expect 2 'which MODEL' "$export" -o "$dir/x.pt2"
expect 2 'which file' "$export" "$model"
expect 2 'one MODEL' "$export" "$model" "$model" -o "$dir/x.pt2"
expect 2 'a whole number' "$export" "$model" --batch-size two -o "$dir/x.pt2"
expect 2 'standard input' "$export" --job --dtype float32 "$model" -o "$dir/x.pt2"
expect 1 '--dtype: must be one of' "$export" "$model" --dtype int8 -o "$dir/x.pt2"
expect 1 '--format: must be one of' "$export" "$model" --format onnx -n
expect 1 '"pointer":"/cache/batch_size"' "$export" "$model" --batch-size 0 --json -n
expect 1 '/problems/not-found' "$export" "$dir/none" --json -n
expect 1 'sequence length must be 1 to max_cache_len, 8' \
    "$export" "$model" --seq-len 9 --max-cache-len 8 -o "$dir/x.pt2"
only ''
expect 0 '"program_bytes":' "$export" "$model" --dry-run --json
only ''
expect 1 'No such file' "$export" "$model" -o "$dir/no/such/folder.pt2"
only ''

expect 0 'sha256: ' "$export" "$model" -o "$dir/a.pt2"
hex=$(sed -n 's/^sha256: //p' "$dir/log")
[ "$(sha256sum <"$dir/a.pt2")" = "$hex  -" ] || { echo "FAIL: not the file's digest"; failed=1; }
only 'a.pt2 '

# a GGUF file is a checkpoint as well
expect 0 'float32, 78528 parameters' "$export" "$srcdir/tests/data/gguf/llama.gguf" -n
: >"$dir/log.gguf"
expect 1 "'log.gguf', byte 0: 4 bytes are expected" "$export" "$dir/log.gguf" -n
rm "$dir/log.gguf"

# a worker gives the same bytes, and says the same digest
echo '{}' >"$dir/log.in"
"$export" --job "$model" -o "$dir/b.pt2" <"$dir/log.in" >"$dir/log" 2>&1
[ $? -eq 0 ] || { echo "FAIL: --job"; failed=1; }
grep -q '^{"progress":{"stage":"weights","done":' "$dir/log" &&
    tail -1 "$dir/log" | grep -q "^{\"result\":{.*\"sha256\":\"$hex\"" ||
    { echo "FAIL: --job prints"; cat "$dir/log"; failed=1; }
cmp "$dir/a.pt2" "$dir/b.pt2" || failed=1

# one core, one thread for the weights: the same bytes
if command -v taskset >/dev/null; then
    for cores in 0 0,1; do
        expect 0 '' taskset -c $cores "$export" "$model" --dtype bfloat16 -q -o "$dir/$cores.pt2"
    done
    cmp "$dir/0.pt2" "$dir/0,1.pt2" || failed=1
    rm -f "$dir/0.pt2" "$dir/0,1.pt2"
fi
rm "$dir/b.pt2"
for body in '{"dtype":"int8"}' '{"a":' '[]' '{"pte":{}}'; do
    echo "$body" | "$export" --job "$model" -o "$dir/b.pt2" >"$dir/log" 2>&1
    [ $? -eq 1 ] && tail -1 "$dir/log" | grep -q '^{"error":{"type":"/problems/' ||
        { echo "FAIL: --job with $body"; cat "$dir/log"; failed=1; }
done
rm "$dir/log.in"
only 'a.pt2 '

# an ExecuTorch program: the .pt2 on the way leaves nothing behind
expect 0 '36 instructions, 7 delegates' "$export" "$model" --format pte -o "$dir/a.pte"
hex=$(sed -n 's/^sha256: //p' "$dir/log")
[ "$(sha256sum <"$dir/a.pte")" = "$hex  -" ] || { echo "FAIL: not the .pte's digest"; failed=1; }
[ "$(head -c 8 "$dir/a.pte" | tail -c 4)" = ET12 ] || { echo "FAIL: no .pte"; failed=1; }
expect 0 "\"pte_bytes\":$(wc -c <"$dir/a.pte")," "$export" "$model" --format pte --json -n
expect 0 "\"pte\":{\"backend\":\"xnnpack\",\"sha256\":\"$hex\",\"bytes\":" \
    "$export" "$model" --format pte --json -o "$dir/b.pte"
cmp "$dir/a.pte" "$dir/b.pte" || failed=1
# and the worker makes the same of an archive
expect 0 '' "$export" "$model" --profile edge --dtype float32 -q -o "$dir/e.pt2"
echo '{"backend": "xnnpack"}' >"$dir/log.in"
"$export" --pte-job "$dir/e.pt2" -o "$dir/b.pte" <"$dir/log.in" >"$dir/log" 2>&1 &&
    grep -q '^{"progress":{"stage":"pte","done":' "$dir/log" &&
    tail -1 "$dir/log" | grep -q "^{\"result\":{.*\"sha256\":\"$hex\"" ||
    { echo "FAIL: --pte-job prints"; cat "$dir/log"; failed=1; }
cmp "$dir/a.pte" "$dir/b.pte" || failed=1
rm "$dir/b.pte" "$dir/log.in"
expect 0 'portable, 171 instructions, 0 delegates' \
    "$export" "$model" --format pte --pte-backend portable -n
only 'a.pt2 a.pte e.pt2 '
# what it can not be is said before anything is written
pte() {
    text=$1
    shift
    expect 1 "$text" "$export" "$model" --format pte "$@" -n
    expect 1 "$text" "$export" "$model" --format pte "$@" -o "$dir/x.pte"
}
pte '--profile: must be edge' --profile torch
pte 'dtype must be float32' --dtype bfloat16
pte 'batch_size must be 1' --batch-size 2
pte 'only weights or only rows are quantised' --quantize-linear 4w
pte '8 bits in groups' --quantize-linear 8da8w
pte 'want the backend xnnpack' --quantize-linear 8da4w --pte-backend portable
pte 'hybrid is not offered with custom_ops' --custom-ops --cache-implementation hybrid
pte '--verify runs a .pt2' --verify 2
expect 1 '--format: must be pte' "$export" "$model" --pte-backend portable -n
pte '--pte-backend: must be one of' --pte-backend coreml
# a pipe, a device
expect 1 'no regular file' "$export" "$model" --format pte -o /dev/stdout
expect 1 'File too large' sh -c "ulimit -f 1000; exec '$export' '$model' --format pte -o '$dir/a.pte'"
[ "$(sha256sum <"$dir/a.pte")" = "$hex  -" ] || { echo "FAIL: the old .pte went"; failed=1; }
rm "$dir/e.pt2" "$dir/a.pte"
only 'a.pt2 '

# interrupted while it writes, or beyond a limit on file sizes: the old file stays, the
# temporary one goes
cp "$dir/a.pt2" "$dir/log.a"
expect 143 '' env PT2_HOSTILE_IN=term "$PT2_LIBEXEC/hostile-export" "$model" --dtype float32 \
    -o "$dir/a.pt2"
expect 1 'File too large' sh -c "ulimit -f 1000; exec '$export' '$model' --dtype float32 -o '$dir/a.pt2'"
cmp "$dir/a.pt2" "$dir/log.a" || failed=1
rm "$dir/log.a"
only 'a.pt2 '
exit $failed
