# Copies back what backup.sh keeps: <claim>/current, or with RESTORE=<day> the files as they were before that day's backup: what the
# days since then replaced or removed goes over it, the oldest last. Files that came later stay; stop what writes to the claims first.
set -eu
data=${DATA:-/data}
for folder in "$data"/*/; do
  claim=$(basename "$folder")
  echo "$claim: from $REMOTE/$claim"
  rclone copy "$REMOTE/$claim/current" "$folder" --links --stats-one-line -v
  test "$RESTORE" != current || continue
  for day in $(rclone lsf --dirs-only "$REMOTE/$claim/previous" | sort -r); do
    day=${day%/}
    case $day in *[!0-9]*) continue ;; esac
    if test "$day" -ge "$RESTORE"; then
      rclone copy "$REMOTE/$claim/previous/$day" "$folder" --links --stats-one-line -v
    fi
  done
done
