#!/usr/bin/env bash
# Runs the scripts of this folder in a Slurm of two nodes on loopback, with the photos of FOLDER, and checks what they leave:
#   docs/clusters/slurm-loopback.sh FOLDER
# As root, on Debian, with slurm-wlm, munge, openmpi-bin and postgresql, and a `firstsight` in PATH that was built with --features mpi.
set -euo pipefail
[ $# = 1 ] || { echo "expected one argument, a folder of photos, found $#" >&2; exit 2; }
scripts=$(cd "$(dirname "$0")" && pwd) photos=$(realpath "$1")
work=$(mktemp -d)
chmod 755 "$work"
pg=("$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)"/pg_ctl -D "$work/pg/data" -l "$work/pg/log")
stop() {
    [ -e "$work/pg/data/postmaster.pid" ] && runuser -u postgres -- "${pg[@]}" -m immediate stop > "$work/stop.log"
    for pid in "$work"/*.pid; do [ -e "$pid" ] && kill "$(cat "$pid")"; done
    sleep 2
    rm -rf "$work"
}
trap stop EXIT

export SLURM_CONF=$work/slurm.conf
host=$(hostname -s)
cat > "$SLURM_CONF" <<CONF
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
StateSaveLocation=$work/state
SlurmctldPidFile=$work/ctld.pid
SlurmctldLogFile=$work/ctld.log
SlurmdSpoolDir=$work/spool-%n
SlurmdPidFile=$work/slurmd-%n.pid
SlurmdLogFile=$work/slurmd-%n.log
TmpFS=$work/tmp-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
NodeName=node[0-1] NodeHostname=$host NodeAddr=127.0.0.1 Port=[16820-16821] CPUs=2
PartitionName=all Nodes=ALL Default=YES State=UP
CONF
mkdir "$work/state" "$work/tmp-node0" "$work/tmp-node1"
if ! munge -n > /dev/null 2>&1; then
    mkdir -p /run/munge && chown munge: /run/munge && runuser -u munge -- munged
fi
slurmctld
slurmd -N node0
slurmd -N node1
cd "$work"
jobs=(--cpus-per-task=1 --time=10)
train=(--model small-cnn --epochs 12 --patience 12 --shards 4 --cache "$work/cache")

echo "== one process"
firstsight train "$photos" --out alone --threads 1 "${train[@]}" &> alone.out

echo "== two nodes, the first job killed"
job=$(sbatch --parsable "${jobs[@]}" "$scripts/train.sbatch" "$photos" "$work/run" "${train[@]}")
until [ -e run/checkpoint/last.safetensors ]; do sleep 0.1; done
pkill -KILL --newest --full "firstsight train $photos --out $work/run "
while squeue --noheader --jobs "$job" 2> /dev/null | grep -q .; do sleep 1; done
sbatch --wait "${jobs[@]}" "$scripts/train.sbatch" "$photos" "$work/run" "${train[@]}"
diff -r --exclude report.html alone run

echo "== a search of four workers, one of them killed"
mkdir pg && chown postgres: pg
runuser -u postgres -- "${pg[@]}" initdb -o "-A trust" > pg-init.out
runuser -u postgres -- "${pg[@]}" -w -o "-p 16830 -k $work/pg -c listen_addresses=127.0.0.1" start > pg-start.out
storage=postgresql://postgres@127.0.0.1:16830/postgres
sbatch "${jobs[@]}" "$scripts/tune.sbatch" "$photos" "$work/search" "$storage" \
    --model small-cnn --trials 12 --heartbeat 5 --cache "$work/cache"
until [ -e search/trials/3 ]; do sleep 0.5; done
pkill -KILL --newest --full "firstsight tune $photos"
while squeue --noheader | grep -q .; do sleep 1; done
count() { psql --no-psqlrc -At "$storage" -c "select count(*) from trials where state $1"; }
[ "$(count "in ('COMPLETE', 'PRUNED')")" = 12 ] || { echo "expected 12 trials that are done" >&2; exit 1; }
firstsight evaluate search/best "$photos" > evaluate.out
echo "all as expected"
