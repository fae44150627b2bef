using System.Buffers;
using ShardForge.Common;
using ShardForge.Storage;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>A short run over a tiny engine, with what its state may be after it was cut off anywhere.</summary>
/// <remarks>After each write the expected state is kept. What a reopened engine holds must be one of them, not before the last one that was flushed.</remarks>
internal sealed class LsmScript(IFileSystem files, StorageResources resources, bool log, LsmCompactionStyle style = LsmCompactionStyle.Leveled)
{
    public const string Directory = "/db/engine";
    private readonly IStorageEngineFactory _factory = StorageEngines.Lsm(TinyLsm.Options with { CompactionStyle = style });
    private readonly List<SortedDictionary<int, int>> _states = [[]];
    private int _flushed;
    private int _value;

    /// <summary>Writes that were refused as not written: they may not show up.</summary>
    public int RefusedCount { get; private set; }

    public StorageEngineContext Context => new() { Directory = Directory, FileSystem = files, Resources = resources, WriteAheadLog = log, Name = "script" };

    /// <summary>Runs until the end, or until something fails in a way that leaves open what was written.</summary>
    public async Task RunAsync()
    {
        try
        {
            for (int round = 0; round < 2; round++)
            {
                await using IStorageEngine engine = await _factory.OpenAsync(Context);
                await WriteAllAsync(engine, round);

                // Without a log the dispose would forget the rest, and the next round would start from another state.
                if (!log)
                    await FlushAsync(engine.FlushAsync());
            }
        }
        catch (Exception error) when (error is IOException or ShardForgeException { IsTransient: false } or UnauthorizedAccessException)
        {
            return;
        }
    }

    /// <summary>Opens what is left and compares; returns how far it came.</summary>
    public async Task CheckAsync(string where)
    {
        await using IStorageEngine engine = await _factory.OpenAsync(Context);
        SortedDictionary<int, int> found = Read(engine);
        for (int at = _states.Count - 1; at >= _flushed; at--)
        {
            if (!found.SequenceEqual(_states[at]))
                continue;

            // It must also go on from there.
            await engine.PutAsync(Key(1000), Key(7));
            await engine.FlushAsync();
            await engine.CompactAsync();
            found.Add(1000, 7);
            if (!Read(engine).SequenceEqual(found))
                throw new InvalidOperationException($"{where}: what is written after the recovery is not what is read.");
            return;
        }

        throw new InvalidOperationException($"{where}: {found.Count} keys are none of the {_states.Count - _flushed} states from the last flush on ({Show(found)}; flushed {Show(_states[_flushed])}).");
    }

    private static byte[] Key(int number) => [(byte)(number >> 8), (byte)number];

    private static string Show(SortedDictionary<int, int> state) => string.Join(' ', state.Select(entry => $"{entry.Key}={entry.Value}"));

    private static SortedDictionary<int, int> Read(IStorageEngine engine)
    {
        SortedDictionary<int, int> found = [];
        using IStorageIterator iterator = engine.Scan(KeyRange.All);
        while (iterator.MoveNext())
        {
            int key = (iterator.Key[0] << 8) | iterator.Key[1];
            found.Add(key, (iterator.Value[0] << 8) | iterator.Value[1]);
            ArrayBufferWriter<byte> value = new();
            if (!engine.TryGet(iterator.Key, value) || !value.WrittenSpan.SequenceEqual(iterator.Value))
                throw new InvalidOperationException($"Get and scan differ for key {key}.");
        }

        return found;
    }

    private async Task WriteAllAsync(IStorageEngine engine, int round)
    {
        for (int step = 0; step < 12; step++)
        {
            StorageBatch batch = new();
            SortedDictionary<int, int> next = new(_states[^1]);
            for (int number = 0; number < 3; number++)
            {
                int key = (step * 7 + number * 5 + round) % 20;
                if (number == 2 && step % 3 == 1)
                {
                    batch.Delete(Key(key));
                    next.Remove(key);
                    continue;
                }

                // Large enough that a few of them fill a memtable.
                batch.Put(Key(key), [.. Key(++_value), .. new byte[300]]);
                next[key] = _value;
            }

            if (step == 7)
            {
                batch.DeleteRange(Key(3), Key(6));
                for (int key = 3; key < 6; key++)
                    next.Remove(key);
            }

            await WriteAsync(engine, batch, next, step % 4 == 3 ? StorageDurability.Flushed : StorageDurability.Buffered);
            if (step == 5)
                await FlushAsync(engine.FlushAsync());
            if (step == 9)
                await FlushAsync(engine.CompactAsync());
            if (step == 10)
                await IngestAsync((ILsmEngine)engine, round);
        }
    }

    private async Task IngestAsync(ILsmEngine engine, int round)
    {
        SortedDictionary<int, int> next = new(_states[^1]);
        string path = $"/db/round{round}.sst";
        using (LsmTableWriter writer = new(path, TinyLsm.Options, files))
        {
            for (int key = 4; key < 9; key++)
            {
                next[key] = ++_value;
                writer.Put(Key(key), Key(_value));
            }

            writer.Finish();
        }

        _states.Add(next);
        try
        {
            await engine.IngestAsync([path]);
            _flushed = _states.Count - 1;
        }
        catch (OverloadedException)
        {
            _states.RemoveAt(_states.Count - 1);
            RefusedCount++;
        }
    }

    private async Task WriteAsync(IStorageEngine engine, StorageBatch batch, SortedDictionary<int, int> next, StorageDurability durability)
    {
        _states.Add(next);
        try
        {
            await engine.WriteAsync(batch, durability);
        }
        catch (OverloadedException)
        {
            // Not written, it says.
            _states.RemoveAt(_states.Count - 1);
            RefusedCount++;
            return;
        }

        if (log && durability == StorageDurability.Flushed)
            _flushed = _states.Count - 1;
    }

    private async Task FlushAsync(ValueTask flush)
    {
        int until = _states.Count - 1;
        try
        {
            await flush;
        }
        catch (OverloadedException)
        {
            return;
        }

        _flushed = until;
    }
}
