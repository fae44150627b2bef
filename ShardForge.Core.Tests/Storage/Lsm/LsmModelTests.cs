using System.Buffers;
using System.Collections.Immutable;
using CsCheck;
using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Storage;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>Random operations of every kind against a sorted map, under every style of compaction; a failure is shrunk to few operations.</summary>
/// <remarks>SHARDFORGE_LONG=1 runs many more. CsCheck prints the seed of a failure; <c>CsCheck_Seed</c> runs it again.</remarks>
[Parallelizable(ParallelScope.Children)]
internal sealed class LsmModelTests
{
    private const int KeyCount = 48;
    private static readonly Gen<int> s_key = Gen.Int[0, KeyCount - 1];

    private static readonly Gen<Step> s_step = Gen.Frequency(
        (40, Gen.Select(s_key, Gen.Int[1, 250], (key, bytes) => new Step(StepKind.Put, key, bytes))),
        (12, s_key.Select(key => new Step(StepKind.Delete, key, 0))),
        (3, Gen.Select(s_key, s_key, (key, end) => new Step(StepKind.DeleteRange, key, end))),
        (4, Gen.Select(s_key, s_key, (key, end) => new Step(StepKind.Ingest, key, end))),
        (4, Gen.Const(new Step(StepKind.Snapshot, 0, 0))),
        (4, Gen.Int[0, 3].Select(index => new Step(StepKind.DropSnapshot, index, 0))),
        (6, Gen.Int[0, 3].Select(index => new Step(StepKind.ReadSnapshot, index, 0))),
        (8, Gen.Select(s_key, s_key, (key, end) => new Step(StepKind.Scan, key, end))),
        (6, Gen.Const(new Step(StepKind.GetMany, 0, 0))),
        (3, Gen.Const(new Step(StepKind.Flush, 0, 0))),
        (3, Gen.Select(s_key, s_key, (key, end) => new Step(StepKind.Compact, key, end))),
        (1, Gen.Const(new Step(StepKind.Checkpoint, 0, 0))),
        (2, Gen.Int[0, 2].Select(style => new Step(StepKind.Reopen, style, 0))));

    [Test]
    public async Task Random_operations_give_what_a_sorted_map_gives([Values] LsmCompactionStyle style, [Values] bool log)
    {
        long count = Environment.GetEnvironmentVariable("SHARDFORGE_LONG") == "1" ? 2000 : 12;
        await s_step.Array[1, 400].SampleAsync(steps => RunAsync(steps, style, log), iter: count, threads: 1, print: Print);
    }

    private static string Print(Step[] steps) => string.Join("; ", steps.Select(step => $"{step.Kind} {step.Key} {step.Argument}"));

    private static async Task RunAsync(Step[] steps, LsmCompactionStyle style, bool log)
    {
        InMemoryFileSystem files = new();
        files.CreateDirectory("/out");
        using StorageResources resources = new(new StorageResourceOptions { BackgroundJobs = 3, BlockCacheBytes = 1 << 20 });
        Model model = new(files, resources, log) { Engine = await OpenAsync(files, resources, style, log) };
        for (int at = 0; at < steps.Length; at++)
            await model.StepAsync(steps[at], at);
        model.CheckScan(0, KeyCount);
        await model.CloseAsync();
        StorageVerification found = await StorageEngines.VerifyAsync(new StorageEngineContext { Directory = "/db", FileSystem = files });
        if (!found.IsIntact)
            throw new InvalidOperationException(found.Damage[0].ToString());
    }

    private static async Task<ILsmEngine> OpenAsync(InMemoryFileSystem files, StorageResources resources, LsmCompactionStyle style, bool log, string directory = "/db") =>
        (ILsmEngine)await StorageEngines.Lsm(TinyLsm.Options with { CompactionStyle = style, MemtableBytes = 4096, LevelBaseBytes = 4096 })
            .OpenAsync(new StorageEngineContext { Directory = directory, FileSystem = files, Resources = resources, WriteAheadLog = log });

    private enum StepKind
    {
        Put, Delete, DeleteRange, Ingest, Snapshot, DropSnapshot, ReadSnapshot, Scan, GetMany, Flush, Compact, Checkpoint, Reopen,
    }

    private readonly record struct Step(StepKind Kind, int Key, int Argument);

    private sealed class Model(InMemoryFileSystem files, StorageResources resources, bool log)
    {
        private readonly List<(IStorageSnapshot Snapshot, ImmutableSortedDictionary<int, byte[]> State)> _snapshots = [];
        private ImmutableSortedDictionary<int, byte[]> _state = ImmutableSortedDictionary<int, byte[]>.Empty;

        public required ILsmEngine Engine { get; set; }

        public async Task StepAsync(Step step, int at)
        {
            switch (step.Kind)
            {
                case StepKind.Put:
                    byte[] value = Value(at, step.Argument);
                    _state = _state.SetItem(step.Key, value);
                    await WriteAsync(batch => batch.Put(Key(step.Key), value));
                    break;
                case StepKind.Delete:
                    _state = _state.Remove(step.Key);
                    await WriteAsync(batch => batch.Delete(Key(step.Key)));
                    break;
                case StepKind.DeleteRange:
                    _state = _state.RemoveRange(Enumerable.Range(0, KeyCount).Where(key => key >= step.Key && key < step.Argument));
                    await WriteAsync(batch => batch.DeleteRange(Key(step.Key), Key(step.Argument)));
                    break;
                case StepKind.Ingest:
                    await IngestAsync(step, at);
                    break;
                case StepKind.Snapshot when _snapshots.Count < 4:
                    _snapshots.Add((Engine.CreateSnapshot(), _state));
                    break;
                case StepKind.DropSnapshot when step.Key < _snapshots.Count:
                    _snapshots[step.Key].Snapshot.Dispose();
                    _snapshots.RemoveAt(step.Key);
                    break;
                case StepKind.ReadSnapshot when step.Key < _snapshots.Count:
                    Check(_snapshots[step.Key].State, _snapshots[step.Key].Snapshot, 0, KeyCount);
                    break;
                case StepKind.Scan:
                    CheckScan(step.Key, step.Argument);
                    break;
                case StepKind.GetMany:
                    await CheckManyAsync();
                    break;
                case StepKind.Flush:
                    await Engine.FlushAsync();
                    break;
                case StepKind.Compact:
                    await Engine.CompactAsync(KeyRange.Between(Key(step.Key), Key(step.Argument)));
                    break;
                case StepKind.Checkpoint:
                    await CheckpointAsync(at);
                    break;
                case StepKind.Reopen:
                    await CloseAsync();
                    Engine = await OpenAsync(files, resources, (LsmCompactionStyle)step.Key, log);
                    CheckScan(0, KeyCount);
                    break;
                default:
                    break;
            }
        }

        public void CheckScan(int from, int to) => Check(_state, null, from, to);

        public async Task CloseAsync()
        {
            foreach ((IStorageSnapshot snapshot, _) in _snapshots)
                snapshot.Dispose();
            _snapshots.Clear();
            if (!log)
                await Engine.FlushAsync();
            await Engine.DisposeAsync();
        }

        private static byte[] Key(int number) => [(byte)'k', (byte)number, .. number % 5 == 0 ? new byte[3] : []];

        private static byte[] Value(int at, int bytes) => [.. BitConverter.GetBytes(at), .. new byte[bytes]];

        private async Task WriteAsync(Action<StorageBatch> fill)
        {
            StorageBatch batch = new();
            fill(batch);
            await Engine.WriteAsync(batch, StorageDurability.Buffered);
        }

        private async Task IngestAsync(Step step, int at)
        {
            if (step.Argument <= step.Key)
                return;
            string path = $"/out/{at}.sst";
            using (LsmTableWriter writer = new(path, TinyLsm.Options, files))
            {
                for (int key = step.Key; key < step.Argument; key++)
                {
                    if (key % 4 == 3)
                    {
                        writer.Delete(Key(key));
                        _state = _state.Remove(key);
                        continue;
                    }

                    writer.Put(Key(key), Value(at, key));
                    _state = _state.SetItem(key, Value(at, key));
                }

                writer.Finish();
            }

            await Engine.IngestAsync([path]);
            files.Delete(path);
        }

        private async Task CheckpointAsync(int at)
        {
            await Engine.CheckpointAsync($"/copy{at}");
            ILsmEngine original = Engine;
            await using ILsmEngine copy = await OpenAsync(files, resources, LsmCompactionStyle.Leveled, log, $"/copy{at}");
            Engine = copy;
            CheckScan(0, KeyCount);
            Engine = original;
        }

        private async Task CheckManyAsync()
        {
            byte[]?[] values = await Engine.GetManyAsync([.. Enumerable.Range(0, KeyCount).Reverse().Select(number => (ReadOnlyMemory<byte>)Key(number))]);
            for (int index = 0; index < values.Length; index++)
                CheckSame(_state.GetValueOrDefault(KeyCount - 1 - index), values[index], KeyCount - 1 - index, "of many");
        }

        private void Check(ImmutableSortedDictionary<int, byte[]> state, IStorageSnapshot? snapshot, int from, int to)
        {
            using IStorageIterator iterator = Engine.Scan(KeyRange.Between(Key(from), Key(to)), new StorageScanOptions { Snapshot = snapshot });
            ArrayBufferWriter<byte> value = new();
            for (int key = from; key < to; key++)
            {
                value.ResetWrittenCount();
                byte[]? found = Engine.TryGet(Key(key), value, snapshot) ? value.WrittenSpan.ToArray() : null;
                CheckSame(state.GetValueOrDefault(key), found, key, snapshot is null ? "now" : "at a snapshot");
                if (state.TryGetValue(key, out byte[]? expected) && !(iterator.MoveNext() && iterator.Key.SequenceEqual(Key(key)) && iterator.Value.SequenceEqual(expected)))
                    throw new InvalidOperationException($"A scan does not give key {key}.");
            }

            if (iterator.MoveNext())
                throw new InvalidOperationException($"A scan gives {Convert.ToHexString(iterator.Key)} behind its end.");
            int left = state.Keys.Count(key => key >= from && key < to);
            for (bool found = iterator.SeekLast(); found; found = iterator.MovePrevious())
                left--;
            if (left != 0)
                throw new InvalidOperationException($"Backwards a scan gives {-left} more.");
        }

        private static void CheckSame(byte[]? expected, byte[]? found, int key, string when)
        {
            if (expected is null ? found is not null : found is null || !found.AsSpan().SequenceEqual(expected))
                throw new InvalidOperationException($"Key {key} {when}: expected {Show(expected)}, found {Show(found)}.");
        }

        private static string Show(byte[]? value) => value is null ? "nothing" : $"{value.Length} bytes of step {BitConverter.ToInt32(value)}";
    }
}
