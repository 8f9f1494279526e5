# Copies each folder of DATA (/data) to REMOTE, a place in rclone's words: what is there now to <claim>/current, what that replaced
# or lacks to <claim>/previous/<day>, which is kept for KEEP_DAYS days. Symbolic links stay links. A claim that fails does not keep
# the others from being copied.
set -u
data=${DATA:-/data}
today=$(date -u +%Y%m%d)
oldest=$(date -u -d "@$(($(date -u +%s) - KEEP_DAYS * 86400))" +%Y%m%d)
failed=""
for folder in "$data"/*/; do
  claim=$(basename "$folder")
  to="$REMOTE/$claim"
  echo "$claim: to $to"
  if ! rclone sync "$folder" "$to/current" --backup-dir "$to/previous/$today" --exclude '/lost+found/**' --exclude '/.*/**' --links --stats-one-line -v; then
    failed="$failed $claim"
    continue
  fi
  # By the names of the days: a file's own time may be years ago.
  for day in $(rclone lsf --dirs-only "$to/previous" 2>/dev/null); do
    day=${day%/}
    case $day in *[!0-9]*) continue ;; esac
    if test "$day" -lt "$oldest"; then rclone purge "$to/previous/$day" || failed="$failed $claim"; fi
  done
done
test -z "$failed" || { echo "failed:$failed" >&2; exit 1; }
