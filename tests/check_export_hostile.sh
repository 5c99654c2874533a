#!/bin/sh
# check_export_hostile.sh - pt2-export with checkpoints, outputs and circumstances that are out
# to break it: a status and a reason each time, never a crash, and nothing left behind.
set -u
model=$srcdir/share/models/demo
export=$PT2_LIBEXEC/pt2-export
dir=$(mktemp -d /tmp/pt2-hostile-XXXXXX) || exit 99
log=$dir.log
trap 'chmod -R u+w "$dir"; rm -rf "$dir" "$log"' EXIT
failed=0

fail() {
    echo "FAIL: $*"
    failed=1
}

# refused TEXT COMMAND...: status 1, and the text in what it prints; no file in $dir/out
refused() {
    text=$1
    shift
    timeout 120 "$@" >"$log" 2>&1
    status=$?
    [ $status -eq 1 ] && grep -qF -e "$text" "$log" ||
        fail "$*: status $status, not 1, or no '$text' in: $(cat "$log")"
    [ -z "$(ls -A "$dir/out")" ] || fail "$*: left $(ls -A "$dir/out")"
}

# a fresh copy of the model, its config changed by a sed expression
changed() {
    rm -rf "$dir/m"
    mkdir "$dir/m"
    cp "$model/model.safetensors" "$dir/m"
    sed -E "$1" "$model/config.json" >"$dir/m/config.json"
}
mkdir "$dir/out"
out=$dir/out/a.pt2

# numbers that lie: what is there, the field that is changed, what it becomes
while read -r field value text; do
    changed "s/(\"$field\": )[^,]*/\\1$value/"
    grep -qF "\"$field\": $value" "$dir/m/config.json" || fail "no $field to change"
    refused "$text" "$export" "$dir/m" -o "$out"
done <<'CASES'
num_hidden_layers 1000000000 num_hidden_layers: must be an integer
num_hidden_layers 1024 are missing, which config.json asks for
num_hidden_layers -1 num_hidden_layers: must be an integer
num_hidden_layers 2.5 num_hidden_layers: must be an integer
num_hidden_layers 1e308 num_hidden_layers: must be an integer
num_hidden_layers NaN num_hidden_layers: must be an integer
num_hidden_layers "4" num_hidden_layers: must be an integer
num_hidden_layers 99999999999999999999 num_hidden_layers: must be an integer
vocab_size 16777216 config.json says
vocab_size 9223372036854775807 vocab_size: must be an integer
vocab_size -9223372036854775808 vocab_size: must be an integer
vocab_size 0 vocab_size: must be an integer
hidden_size 1e3 hidden_size: must be an integer
intermediate_size 16777216 config.json says
num_attention_heads 65536 num_attention_heads
num_key_value_heads 0 num_key_value_heads: must be an integer
rms_norm_eps 1e308 rms_norm_eps: must be a number
rms_norm_eps Infinity rms_norm_eps: must be a number
rms_norm_eps -1e-5 rms_norm_eps: must be a number
max_position_embeddings 1e308 max_position_embeddings: must be an integer
tie_word_embeddings 1 tie_word_embeddings: must be true or false
CASES

# files that are none
changed ''
rm "$dir/m/model.safetensors"
refused 'safetensors' "$export" "$dir/m" -o "$out"
mkfifo "$dir/m/model.safetensors"
refused 'not a regular file' "$export" "$dir/m" -o "$out"
rm "$dir/m/model.safetensors"
mkdir "$dir/m/model.safetensors"
refused 'not a regular file' "$export" "$dir/m" -o "$out"
rmdir "$dir/m/model.safetensors"
ln -s /dev/zero "$dir/m/model.safetensors"
refused 'not a regular file' "$export" "$dir/m" -o "$out"
rm "$dir/m/model.safetensors"
ln -s model.safetensors "$dir/m/model.safetensors"
refused 'model.safetensors' "$export" "$dir/m" -o "$out"
changed ''
rm "$dir/m/config.json"
mkfifo "$dir/m/config.json"
refused 'not a regular file' "$export" "$dir/m" -o "$out"
rm "$dir/m/config.json"
ln -s /dev/zero "$dir/m/config.json"
refused 'not a regular file' "$export" "$dir/m" -o "$out"
rm "$dir/m/config.json"
truncate -s 8G "$dir/m/config.json"
refused 'config.json' "$export" "$dir/m" -o "$out"
changed ''
mkfifo "$dir/m/tokenizer.json"
refused 'not a regular file' "$export" "$dir/m" -o "$out"
refused "'config.json' is not a GGUF file" "$export" "$dir/m/config.json" -o "$out"

# shards: the index that is named by itself, names beyond the directory
for name in ../m/model.safetensors /etc/passwd model.safetensors.index.json .hidden.safetensors; do
    changed ''
    mv "$dir/m/model.safetensors" "$dir/m/a.safetensors"
    echo "{\"weight_map\": {\"model.norm.weight\": \"$name\"}}" \
        >"$dir/m/model.safetensors.index.json"
    refused 'is not the name of a .safetensors file' "$export" "$dir/m" -o "$out"
done

# outputs that can not be
refused 'No such file' "$export" "$model" -o "$dir/none/a.pt2"
refused 'no regular file' "$export" "$model" -o "$dir/out"
refused 'no regular file' "$export" "$model" -o /dev/full
[ -c /dev/full ] || fail "/dev/full was replaced"
refused 'Not a directory' "$export" "$model" -o "$log/a.pt2"
for kind in fifo link dangling; do
    mkdir "$dir/kind"
    case $kind in
    fifo) mkfifo "$dir/kind/a.pt2" ;;
    link) ln -s "$model/config.json" "$dir/kind/a.pt2" ;;
    dangling) ln -s nothing "$dir/kind/a.pt2" ;;
    esac
    refused 'no regular file' "$export" "$model" -o "$dir/kind/a.pt2"
    [ -p "$dir/kind/a.pt2" ] || [ -L "$dir/kind/a.pt2" ] || fail "$kind was replaced"
    rm -r "$dir/kind"
done
if [ "$(id -u)" -ne 0 ]; then
    chmod a-w "$dir/out"
    refused 'Permission denied' "$export" "$model" -o "$out"
    chmod u+w "$dir/out"
fi
"$export" "$model" -o "$out" >/dev/full 2>"$log"
[ $? -eq 1 ] || fail 'standard output is full: not status 1'
rm -f "$out"

# limits: on the size of files, on memory in steps (each either works or says so)
refused 'File too large' sh -c "ulimit -f 8; exec '$export' '$model' -o '$out'"
refused 'Too many open files' sh -c "ulimit -n 4; exec '$export' '$model' -o '$out'"
memory=y # what it takes can be measured and limited
grep -qaE '__(a|t)san_init' "$export" && memory=
for kb in ${memory:+12000 16000 20000 24000 28000 32000 40000}; do
    sh -c "ulimit -v $kb; exec '$export' '$model' -o '$out'" >"$log" 2>&1
    status=$?
    case $status in
    0) rm "$out" ;;
    1 | 127) [ -s "$log" ] || fail "$kb KB: says nothing" ;;
    *) fail "$kb KB: status $status: $(cat "$log")" ;;
    esac
    [ -z "$(ls -A "$dir/out")" ] || fail "$kb KB: left $(ls -A "$dir/out")"
done

# a checkpoint of 2 GB, a hole: stopped while it writes, by each signal that asks for it, the
# temporary file goes
hole() { # hole VOCAB_SIZE: an embedding of so many rows and one layer, all zeros
    changed 's/("vocab_size": )[0-9]*/\1'"$1"'/; s/("num_hidden_layers": )[0-9]*/\11/'
    python3 - "$dir/m/model.safetensors" "$1" <<'PYTHON'
import json, struct, sys
path, vocab = sys.argv[1], int(sys.argv[2])
layer = "model.layers.0."
shapes = {"model.embed_tokens": (vocab, 96), "model.norm": (96,),
          layer + "input_layernorm": (96,), layer + "post_attention_layernorm": (96,),
          layer + "self_attn.q_proj": (96, 96), layer + "self_attn.k_proj": (48, 96),
          layer + "self_attn.v_proj": (48, 96), layer + "self_attn.o_proj": (96, 96),
          layer + "mlp.gate_proj": (256, 96), layer + "mlp.up_proj": (256, 96),
          layer + "mlp.down_proj": (96, 256)}
header, at = {}, 0
for name, shape in shapes.items():
    size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
    header[name + ".weight"] = {"dtype": "BF16", "shape": list(shape),
                                "data_offsets": [at, at + size]}
    at += size
text = json.dumps(header).encode()
with open(path, "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text)
    file.truncate(8 + len(text) + at)
PYTHON
}
hole 10500000
for signal in TERM INT HUP; do
    # whoever started us may have left some ignored, as a shell does with SIGINT
    env --default-signal=TERM,INT,HUP "$export" "$dir/m" -o "$out" >"$log" 2>&1 &
    pid=$!
    n=0
    while [ -z "$(ls -A "$dir/out")" ] && kill -0 $pid 2>/dev/null && [ $n -lt 3000 ]; do
        sleep 0.02
        n=$((n + 1))
    done
    kill -s $signal $pid || fail "SIG$signal: it had ended: $(cat "$log")"
    wait $pid
    status=$?
    [ $status -gt 128 ] || fail "SIG$signal: status $status"
    [ -z "$(ls -A "$dir/out")" ] || fail "SIG$signal: left $(ls -A "$dir/out")"
done

# peak memory stays below 64 MB whatever the size (sanitizers have memory of their own)
if [ "$memory" ]; then
    hole 1500000
    python3 - "$export" "$dir/m" -o "$out" <<'PYTHON' || failed=1
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(f"peak memory: {peak} KB for 288 MB of weights")
sys.exit(peak >= 64 << 10)
PYTHON
fi
exit $failed
