using System.Buffers;
using ShardForge.Storage;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>Numbered writes whose every prefix has a state that can be computed: what a process does until it is killed, and what is held against what is left of it.</summary>
internal static class StorageLoad
{
    private const int KeyCount = 400;
    private static readonly byte[] s_counterKey = [0];

    /// <summary>So small that a second of load flushes and compacts hundreds of times.</summary>
    public static LsmOptions Options(LsmCompactionStyle style) => new()
    {
        CompactionStyle = style,
        MemtableBytes = 16 * 1024,
        BlockBytes = 512,
        LevelZeroTables = 3,
        LevelZeroSlowdownTables = 12,
        LevelZeroStopTables = 16,
        LevelBaseBytes = 32 * 1024,
        LevelMultiplier = 3,
        TableBytes = 8 * 1024,
    };

    /// <summary>The operations of one write.</summary>
    public static StorageBatch Write(long number)
    {
        StorageBatch batch = new();
        for (int part = 0; part < 3; part++)
        {
            int key = Key(number, part);
            if (part == 1 && number % 7 == 0)
                batch.Delete(Encode(key));
            else
                batch.Put(Encode(key), Value(number));
        }

        if (number % 97 == 0)
            batch.DeleteRange(Encode(Key(number, 3)), Encode(Key(number, 3) + 20));
        batch.Put(s_counterKey, BitConverter.GetBytes(number));
        return batch;
    }

    /// <summary>The number of the last write that an engine has; 0: none.</summary>
    public static long ReadCounter(IStorageEngine engine)
    {
        ArrayBufferWriter<byte> value = new();
        return engine.TryGet(s_counterKey, value) ? BitConverter.ToInt64(value.WrittenSpan) : 0;
    }

    /// <summary>What is wrong in an engine that says it has so many writes; null: nothing.</summary>
    public static string? Compare(IStorageEngine engine, long last)
    {
        Dictionary<int, long> expected = [];
        for (long number = 1; number <= last; number++)
            Apply(expected, number);
        using IStorageIterator iterator = engine.Scan(KeyRange.From(new byte[] { 1 }));
        int found = 0;
        for (; iterator.MoveNext(); found++)
        {
            int key = (iterator.Key[1] << 8) | iterator.Key[2];
            if (!expected.TryGetValue(key, out long number))
                return $"key {key} is there, and write {last} leaves none";
            if (!iterator.Value.SequenceEqual(Value(number)))
                return $"key {key} does not have the value of write {number}";
        }

        return found == expected.Count ? null : $"{expected.Count - found} of {expected.Count} keys of write {last} are missing";
    }

    private static void Apply(Dictionary<int, long> state, long number)
    {
        for (int part = 0; part < 3; part++)
        {
            if (part == 1 && number % 7 == 0)
                state.Remove(Key(number, part));
            else
                state[Key(number, part)] = number;
        }

        if (number % 97 != 0)
            return;
        for (int key = Key(number, 3); key < Key(number, 3) + 20; key++)
            state.Remove(key);
    }

    /// <summary>Spread, and not the same keys in one write.</summary>
    private static int Key(long number, int part) => (int)(((number * 7919) + (part * 131)) % KeyCount);

    private static byte[] Encode(int key) => [1, (byte)(key >> 8), (byte)key];

    private static byte[] Value(long number)
    {
        byte[] value = new byte[60 + (number % 50)];
        value.AsSpan().Fill((byte)number);
        BitConverter.TryWriteBytes(value, number);
        return value;
    }
}
