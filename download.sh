#!/bin/sh
# Fetch the published weights into data/pretrained. A thin call of `repaint weights get`, which resumes, and
# checks those files whose hash is known.
set -eu

usage() {
    cat <<EOF
usage: ./download.sh celebahq|places|imagenet|imagenet-uncond|all ...

  celebahq         faces, 2.2 GB
  places           scenes, 2.2 GB
  imagenet         photos of a known class, with the classifier that guides them, 2.4 GB
  imagenet-uncond  photos of anything, 2.2 GB
  all              all of these, 9 GB
EOF
}

names=
for word in "$@"; do
    case $word in
        celebahq) names="$names celebahq-256" ;;
        places) names="$names places-256" ;;
        imagenet) names="$names imagenet-256 imagenet-256-classifier" ;;
        imagenet-uncond) names="$names imagenet-256-uncond" ;;
        all) names="$names celebahq-256 places-256 imagenet-256 imagenet-256-classifier imagenet-256-uncond" ;;
        -h | --help) usage; exit 0 ;;
        *) echo "download.sh: unknown word: $word" >&2; usage >&2; exit 2 ;;
    esac
done
[ -n "$names" ] || { usage >&2; exit 2; }

cd "$(dirname "$0")"
# $names is meant to be split into words.
# shellcheck disable=SC2086
if [ -x .venv/bin/repaint ]; then
    exec .venv/bin/repaint weights get $names
elif command -v repaint >/dev/null; then
    exec repaint weights get $names
elif command -v python >/dev/null; then
    exec python -m repaint weights get $names
else
    exec python3 -m repaint weights get $names
fi
