#include "server/store/schema.h"

#include <array>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace liger::server {
namespace {

// A migration is never changed once it has been released; add another.
// Times are microseconds since the Unix epoch, 0 for "not yet"; blobs are
// serialized protos (docs/protocol.md, Tables).
constexpr std::array kMigrations = {
    R"sql(
CREATE TABLE sequences(
  name TEXT PRIMARY KEY, next INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE jobs(
  uid TEXT PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, state INTEGER NOT NULL,
  reason TEXT NOT NULL, priority INTEGER NOT NULL, method TEXT NOT NULL, model TEXT NOT NULL,
  spec BLOB NOT NULL, resolved_spec BLOB NOT NULL, spec_hash TEXT NOT NULL,
  hash_version INTEGER NOT NULL, status BLOB NOT NULL, current_epoch INTEGER NOT NULL,
  restarts INTEGER NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL,
  started INTEGER NOT NULL, ended INTEGER NOT NULL, state_since INTEGER NOT NULL,
  revision INTEGER NOT NULL, last_event_seq INTEGER NOT NULL,
  deleted INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX jobs_by_name ON jobs(tenant, name) WHERE deleted = 0;
CREATE INDEX jobs_by_age ON jobs(tenant, created, uid);
CREATE INDEX jobs_by_state ON jobs(state);

CREATE TABLE labels(
  job_uid TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
  PRIMARY KEY(job_uid, key)) STRICT, WITHOUT ROWID;

CREATE TABLE requests(
  tenant TEXT NOT NULL, method TEXT NOT NULL, request_id TEXT NOT NULL, body_hash TEXT NOT NULL,
  job_uid TEXT NOT NULL, expires INTEGER NOT NULL,
  PRIMARY KEY(tenant, method, request_id)) STRICT, WITHOUT ROWID;

CREATE TABLE attempts(
  job_uid TEXT NOT NULL, epoch INTEGER NOT NULL, state INTEGER NOT NULL,
  resume_from TEXT NOT NULL, started INTEGER NOT NULL, ended INTEGER NOT NULL,
  failure_class INTEGER NOT NULL, first_failed_rank INTEGER NOT NULL, detail TEXT NOT NULL,
  PRIMARY KEY(job_uid, epoch)) STRICT, WITHOUT ROWID;

CREATE TABLE members(
  job_uid TEXT NOT NULL, epoch INTEGER NOT NULL, node_rank INTEGER NOT NULL,
  worker_id TEXT NOT NULL, incarnation INTEGER NOT NULL, ranks TEXT NOT NULL,
  device_uuids TEXT NOT NULL, acked_event_seq INTEGER NOT NULL, released INTEGER NOT NULL,
  PRIMARY KEY(job_uid, epoch, node_rank)) STRICT, WITHOUT ROWID;
CREATE INDEX members_unreleased ON members(worker_id) WHERE released = 0;

CREATE TABLE tasks(
  task_id TEXT PRIMARY KEY, kind INTEGER NOT NULL, job_uid TEXT NOT NULL,
  worker_id TEXT NOT NULL, incarnation INTEGER NOT NULL, state INTEGER NOT NULL,
  result BLOB NOT NULL, acked_event_seq INTEGER NOT NULL,
  created INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX tasks_by_job ON tasks(job_uid);
CREATE INDEX tasks_by_state ON tasks(state);

CREATE TABLE workers(
  worker_id TEXT PRIMARY KEY, incarnation INTEGER NOT NULL, boot_id TEXT NOT NULL,
  hello BLOB NOT NULL, state INTEGER NOT NULL, cordoned INTEGER NOT NULL,
  updated INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE events(
  job_uid TEXT NOT NULL, seq INTEGER NOT NULL, revision INTEGER NOT NULL UNIQUE,
  time INTEGER NOT NULL, type TEXT NOT NULL, actor TEXT NOT NULL, from_state INTEGER NOT NULL,
  to_state INTEGER NOT NULL, payload BLOB NOT NULL,
  PRIMARY KEY(job_uid, seq)) STRICT, WITHOUT ROWID;

CREATE TABLE artifacts(
  id TEXT PRIMARY KEY, job_uid TEXT NOT NULL, epoch INTEGER NOT NULL,
  publication_id TEXT NOT NULL, kind TEXT NOT NULL, step INTEGER NOT NULL, uri TEXT NOT NULL,
  digest TEXT NOT NULL, bytes INTEGER NOT NULL, worker_id TEXT NOT NULL,
  created INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX artifacts_by_job ON artifacts(job_uid);

CREATE TABLE metric_chunks(
  job_uid TEXT NOT NULL, epoch INTEGER NOT NULL, first_step INTEGER NOT NULL,
  last_step INTEGER NOT NULL, blob BLOB NOT NULL,
  PRIMARY KEY(job_uid, epoch, first_step)) STRICT;

CREATE TABLE log_files(
  job_uid TEXT NOT NULL, epoch INTEGER NOT NULL, rank INTEGER NOT NULL, path TEXT NOT NULL,
  through_offset INTEGER NOT NULL,
  PRIMARY KEY(job_uid, epoch, rank)) STRICT, WITHOUT ROWID;
)sql",
    // Who holds an output (jobs from before are not found by it), and what
    // workers still have to remove.
    R"sql(
ALTER TABLE jobs ADD COLUMN output TEXT NOT NULL DEFAULT '';
CREATE INDEX jobs_by_output ON jobs(tenant, output) WHERE output != '';
CREATE INDEX jobs_by_end ON jobs(ended) WHERE ended != 0;

CREATE TABLE reclaims(
  worker_id TEXT NOT NULL, uri TEXT NOT NULL, digest TEXT NOT NULL,
  PRIMARY KEY(worker_id, uri)) STRICT, WITHOUT ROWID;
)sql",
    // Experiments, what attempts ran on, and results that can be taken again.
    R"sql(
CREATE TABLE environments(
  job_uid TEXT NOT NULL, epoch INTEGER NOT NULL, environment BLOB NOT NULL,
  PRIMARY KEY(job_uid, epoch)) STRICT, WITHOUT ROWID;

CREATE TABLE experiments(
  uid TEXT PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, state INTEGER NOT NULL,
  experiment BLOB NOT NULL, created INTEGER NOT NULL, revision INTEGER NOT NULL,
  deleted INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX experiments_by_name ON experiments(tenant, name) WHERE deleted = 0;
CREATE INDEX experiments_by_age ON experiments(tenant, created, uid);
CREATE INDEX experiments_by_state ON experiments(state);

CREATE TABLE results(
  tenant TEXT NOT NULL, key TEXT NOT NULL, job_uid TEXT NOT NULL, recorded INTEGER NOT NULL,
  PRIMARY KEY(tenant, key, job_uid)) STRICT, WITHOUT ROWID;
)sql",
    // How each worker's part of an attempt ended; exit_state 0: it has not.
    R"sql(
ALTER TABLE members ADD COLUMN exit_state INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN exit_retry INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN exit_free INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN exit_failure BLOB NOT NULL DEFAULT x'';
ALTER TABLE members ADD COLUMN exit_time INTEGER NOT NULL DEFAULT 0;
)sql",
    // Jobs are counted every second: without reading past their specs.
    R"sql(
CREATE INDEX jobs_alive_by_state ON jobs(state) WHERE deleted = 0;
)sql",
    // Specs, which may be long, behind all that is read every few seconds, since SQLite
    // walks through what lies before a column; and with rowids, since without them it
    // reads whole rows to find one.
    R"sql(
CREATE TABLE jobs_with_specs_last(
  uid TEXT PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, state INTEGER NOT NULL,
  reason TEXT NOT NULL, priority INTEGER NOT NULL, method TEXT NOT NULL, model TEXT NOT NULL,
  spec_hash TEXT NOT NULL, hash_version INTEGER NOT NULL, status BLOB NOT NULL,
  current_epoch INTEGER NOT NULL, restarts INTEGER NOT NULL, created INTEGER NOT NULL,
  updated INTEGER NOT NULL, started INTEGER NOT NULL, ended INTEGER NOT NULL,
  state_since INTEGER NOT NULL, revision INTEGER NOT NULL, last_event_seq INTEGER NOT NULL,
  deleted INTEGER NOT NULL, output TEXT NOT NULL, spec BLOB NOT NULL,
  resolved_spec BLOB NOT NULL) STRICT;
INSERT INTO jobs_with_specs_last
  SELECT uid, tenant, name, state, reason, priority, method, model, spec_hash, hash_version,
    status, current_epoch, restarts, created, updated, started, ended, state_since, revision,
    last_event_seq, deleted, output, spec, resolved_spec FROM jobs;
DROP TABLE jobs;
ALTER TABLE jobs_with_specs_last RENAME TO jobs;
CREATE UNIQUE INDEX jobs_by_name ON jobs(tenant, name) WHERE deleted = 0;
CREATE INDEX jobs_by_age ON jobs(tenant, created, uid);
CREATE INDEX jobs_by_state ON jobs(state);
CREATE INDEX jobs_by_output ON jobs(tenant, output) WHERE output != '';
CREATE INDEX jobs_by_end ON jobs(ended) WHERE ended != 0;
CREATE INDEX jobs_alive_by_state ON jobs(state) WHERE deleted = 0;
)sql",
    // Why a checkpoint is quarantined; empty: it is not.
    R"sql(
ALTER TABLE artifacts ADD COLUMN damage TEXT NOT NULL DEFAULT '';
)sql",
    // Whether what was granted is there; before this a grant counted as that.
    R"sql(
ALTER TABLE artifacts ADD COLUMN visible INTEGER NOT NULL DEFAULT 1;
ALTER TABLE artifacts ADD COLUMN best BLOB NOT NULL DEFAULT x'';
)sql",
};

}  // namespace

int SchemaVersion() { return static_cast<int>(kMigrations.size()); }

absl::Status MigrateSchema(SqliteDb* db) {
  absl::Status status = db->Execute(
      "BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS meta("
      "key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID");
  if (!status.ok()) return status;
  int version = 0;
  {
    SqliteQuery query = db->Query("SELECT value FROM meta WHERE key = 'schema_version'");
    if (query.Next() && !absl::SimpleAtoi(query.Text(), &version)) {
      return absl::DataLossError("the store's schema_version is not a number");
    }
  }
  if (version > SchemaVersion()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the data folder was written by a newer liger-coordinator (schema ", version,
                     ", this one knows ", SchemaVersion(), "); run that version"));
  }
  for (int next = version; next < SchemaVersion(); ++next) {
    status = db->Execute(kMigrations[next]);
    if (!status.ok()) return status;
  }
  db->Run("INSERT OR REPLACE INTO meta(key, value) VALUES('schema_version', ?1)",
          absl::StrCat(SchemaVersion()));
  if (!db->status().ok()) return db->status();
  return db->Execute("COMMIT");
}

}  // namespace liger::server
