# Downloads a model from an object store with rclone, https://rclone.org, in its own image.
#
# Environment: SOURCE (as rclone writes it), FOLDER, TARGET (in FOLDER, where the files go), ALLOW and IGNORE (patterns, a line
# each). One download at a time holds the lock FOLDER.lock. rclone skips what is there, repeats what fails, waits out rate limits,
# and compares sizes and checksums; SHA256SUMS among the files is checked too. FOLDER/manifest, a line "- <bytes> <file>" for
# each, appears when all is there.
set -euf

if [ -z "${LOCKED:-}" ]; then
  mkdir -p "$FOLDER"
  echo "waiting for the lock, if another pod downloads this model"
  LOCKED=yes exec flock "$FOLDER.lock" sh "$0"
fi
if [ -e "$FOLDER/manifest" ]; then
  echo "$TARGET is complete"
  exit 0
fi

filter() {
  echo "$IGNORE" | while read -r pattern; do [ -z "$pattern" ] || echo "- $pattern"; done
  echo "$ALLOW" | while read -r pattern; do [ -z "$pattern" ] || echo "+ $pattern"; done
  [ -z "$ALLOW" ] || echo "- **"
}
rules=$(filter)
# Nothing is read or kept but what the environment says.
export RCLONE_CONFIG=/dev/null
echo "$rules" | rclone copy "$SOURCE" "$TARGET" --filter-from - --checksum --transfers 4 --retries 10 --retries-sleep 30s --stats 30s --stats-log-level NOTICE
echo "$rules" | rclone check "$SOURCE" "$TARGET" --filter-from - --one-way
if [ -z "$(find "$TARGET" -type f | head -n 1)" ]; then
  echo "failed: $SOURCE has none of the files that were asked for"
  exit 1
fi
if [ -e "$TARGET/SHA256SUMS" ]; then
  # Of the files that were asked for: the list may name more. busybox has no --ignore-missing.
  cd "$TARGET"
  sums=$(while IFS= read -r line || [ -n "$line" ]; do
    [ ! -e "$(echo "$line" | sed 's/^[^ ]* [ *]//')" ] || echo "$line"
  done <SHA256SUMS)
  if [ -s SHA256SUMS ] && [ -z "$sums" ]; then
    echo "failed: SHA256SUMS names none of the files"
    exit 1
  fi
  [ -z "$sums" ] || echo "$sums" | sha256sum -c
fi
(cd "$FOLDER" && find "${TARGET#"$FOLDER"/}" -type f -exec stat -c "- %s %n" {} +) >"$FOLDER/manifest.partial"
mv "$FOLDER/manifest.partial" "$FOLDER/manifest"
echo "$TARGET is complete"
