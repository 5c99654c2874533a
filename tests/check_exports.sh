#!/bin/sh
# check_exports.sh - libpt2.so exports exactly the functions that the installed headers
# declare, and a program of somebody else's, compiled against those headers and the pt2.pc of
# an installation alone, reads and prints an archive.
set -eu
dir=$(mktemp -d "${TMPDIR:-/tmp}/pt2-exports-XXXXXX")
trap 'rm -rf "$dir"' EXIT
lib=$PT2_LIBEXEC/.libs/libpt2.so
[ -e "$lib" ] || { echo "no $lib"; exit 77; }

# Declarations: PT2_API, and the name before the first parenthesis that a pt2_ name has.
grep -hv '^#' "$srcdir"/include/pt2/*.h | tr '\n' ' ' | grep -o 'PT2_API [^;]*;' |
    sed 's/PT2_MUST_USE//; s/^\([^(]*\)(.*/\1/; s/.*[ *]\(pt2_[a-z0-9_]*\) *$/\1/' |
    sort -u >"$dir/declared"
nm -D --defined-only "$lib" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
    sort -u >"$dir/exported"
[ "$(wc -l <"$dir/declared")" -gt 40 ] || { echo "the headers were not understood"; exit 1; }
if ! diff "$dir/declared" "$dir/exported"; then
    echo "FAIL: declared by include/pt2 (<), exported by libpt2.so (>)"
    exit 1
fi

# Each header stands alone, in C and in C++.
for header in "$srcdir"/include/pt2/[a-su-z]*.h; do
    for language in c c++; do
        echo "#include <pt2/$(basename "$header")>" |
            ${CC:-cc} -x $language -Wall -Werror -fsyntax-only -I"$srcdir/include" - ||
            { echo "FAIL: $header, in $language"; exit 1; }
    done
done
case "${SAN_FLAGS:-}" in
    *sanitize*) exit 0 ;; # the library wants the sanitizer's runtime first
esac

cat >"$dir/outside.c" <<'C'
#include <pt2/archive.h>
#include <pt2/program.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    struct pt2_archive *archive;
    struct pt2_program *program;
    struct pt2_err err = {0};
    char *text;

    if (argc != 2 || pt2_archive_open(argv[1], &archive, &err) < 0 ||
        pt2_program_read(archive, &program, &err) < 0 ||
        pt2_program_print(program, &text, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    puts(text);
    free(text);
    pt2_program_free(program);
    pt2_archive_free(archive);
    return 0;
}
C
"$PT2_LIBEXEC/pt2-export" "$srcdir/share/models/demo" -o "$dir/demo.pt2" --quiet >/dev/null
mkdir "$dir/lib"
cp -a "$PT2_LIBEXEC"/.libs/libpt2.so* "$dir/lib/"
flags=$(PKG_CONFIG_PATH=$PT2_LIBEXEC pkg-config --define-variable=includedir="$(cd "$srcdir" && pwd)/include" \
    --define-variable=libdir="$dir/lib" --cflags --libs pt2)
# shellcheck disable=SC2086 # words
${CC:-cc} -std=c17 -Wall -Wextra -Werror "$dir/outside.c" -o "$dir/outside" $flags
LD_LIBRARY_PATH=$dir/lib "$dir/outside" "$dir/demo.pt2" >"$dir/graph"
grep -q 'aten.linear' "$dir/graph" || { echo "FAIL: no graph in:"; head "$dir/graph"; exit 1; }
