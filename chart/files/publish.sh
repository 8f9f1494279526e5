# Makes a finished engine visible, all at once, and clears what builds of it left behind. ENGINE and ENGINE_WORK are directories of
# one file system; another build may have been faster.
set -eu
if ! test -e "$ENGINE/.complete"; then
  touch "$ENGINE_WORK/engine/.complete"
  mv -T "$ENGINE_WORK/engine" "$ENGINE" || test -e "$ENGINE/.complete"
fi
rm -rf "$(dirname "$ENGINE")/.$(basename "$ENGINE")-"*
echo "$ENGINE is complete"
