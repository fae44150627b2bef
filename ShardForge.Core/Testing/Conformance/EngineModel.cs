using System.Collections.Immutable;
using ShardForge.Storage;

namespace ShardForge.Testing;

/// <summary>An engine, and beside it a sorted dictionary that gets the same operations; every answer of the one is held against the other.</summary>
/// <remarks>Keys come from a small alphabet with both ends of the byte range, so that they collide, are prefixes of each other and sit at bounds.</remarks>
internal sealed class EngineModel(ConformanceRun run, IStorageEngine engine)
{
    private static readonly byte[] s_alphabet = [0x00, 0x01, 0x61, 0x7F, 0x80, 0xFF];

    private readonly List<(IStorageSnapshot Snapshot, ImmutableSortedDictionary<byte[], byte[]> State)> _snapshots = [];
    private readonly List<IteratorModel> _iterators = [];
    private IStorageEngine _engine = engine;
    private ImmutableSortedDictionary<byte[], byte[]> _state = ImmutableSortedDictionary.Create<byte[], byte[]>(KeyOrder.Instance);
    private int _operation;

    public async Task StepAsync(int operation, bool reopens)
    {
        _operation = operation;
        switch (run.Random.Next(100))
        {
            case < 40:
                await WriteAsync().ConfigureAwait(false);
                break;
            case < 55:
                Read();
                break;
            case < 62:
                CompareScan(null, _state);
                break;
            case < 66:
                _snapshots.Add((_engine.CreateSnapshot(), _state));
                break;
            case < 70:
                CompareSnapshot();
                break;
            case < 74:
                OpenIterator();
                break;
            case < 86:
                WalkIterator();
                break;
            case < 92:
                await RunTransactionAsync().ConfigureAwait(false);
                break;
            case < 95:
                await _engine.FlushAsync(run.CancellationToken).ConfigureAwait(false);
                break;
            case < 97:
                await _engine.CompactAsync(RandomRange(), run.CancellationToken).ConfigureAwait(false);
                break;
            default:
                if (reopens)
                    await ReopenAsync().ConfigureAwait(false);
                break;
        }
    }

    public void CompareAll(string when)
    {
        CompareScan(KeyRange.All, _engine, null, _state, when);
        foreach ((IStorageSnapshot snapshot, ImmutableSortedDictionary<byte[], byte[]> state) in _snapshots)
            CompareScan(KeyRange.All, _engine, snapshot, state, when + ", a snapshot");
    }

    public void Close()
    {
        foreach (IteratorModel iterator in _iterators)
            iterator.Dispose();
        _iterators.Clear();
        foreach ((IStorageSnapshot snapshot, _) in _snapshots)
            snapshot.Dispose();
        _snapshots.Clear();
    }

    private async Task WriteAsync()
    {
        StorageBatch batch = new();
        int count = run.Random.Next(4) == 0 ? run.Random.Next(40) : 1;
        for (int number = 0; number < count; number++)
        {
            byte[] key = RandomKey();
            switch (run.Random.Next(20))
            {
                case < 12:
                    byte[] value = RandomValue();
                    batch.Put(key, value);
                    _state = _state.SetItem(key, value);
                    break;
                case < 18:
                    batch.Delete(key);
                    _state = _state.Remove(key);
                    break;
                default:
                    byte[] end = RandomKey();
                    batch.DeleteRange(key, end);
                    _state = _state.RemoveRange(_state.Keys.Where(k => KeyOrder.Instance.Compare(k, key) >= 0 && KeyOrder.Instance.Compare(k, end) < 0).ToArray());
                    break;
            }
        }

        await _engine.WriteAsync(batch, run.Random.Next(3) == 0 ? StorageDurability.Flushed : StorageDurability.Buffered, run.CancellationToken).ConfigureAwait(false);
    }

    private void Read()
    {
        for (int number = 0; number < 10; number++)
        {
            byte[] key = RandomKey();
            run.SameOrAbsent(_state.GetValueOrDefault(key), run.Get(_engine, key, null), $"operation {_operation}, TryGet of {ConformanceRun.Show(key)}");
        }
    }

    private void CompareScan(IStorageSnapshot? snapshot, ImmutableSortedDictionary<byte[], byte[]> state) =>
        CompareScan(RandomRange(), _engine, snapshot, state, $"operation {_operation}");

    private void CompareScan(KeyRange range, IStorageEngine engine, IStorageSnapshot? snapshot, ImmutableSortedDictionary<byte[], byte[]> state, string when)
    {
        using IStorageIterator iterator = engine.Scan(range, new StorageScanOptions { Snapshot = snapshot });
        KeyValuePair<byte[], byte[]>[] expected = [.. state.Where(e => range.Contains(e.Key))];
        run.Walks(iterator, $"{when}, scan of {range}", Array.ConvertAll(expected, e => e.Key));
        bool found = iterator.SeekFirst();
        foreach ((byte[] key, byte[] value) in expected)
        {
            run.True(found, $"{when}, scan of {range}: ends before {ConformanceRun.Show(key)}");
            run.Same(value, iterator.Value, $"{when}, scan of {range}: value of {ConformanceRun.Show(key)}");
            found = iterator.MoveNext();
        }
    }

    private void CompareSnapshot()
    {
        if (_snapshots.Count == 0)
            return;
        int index = run.Random.Next(_snapshots.Count);
        (IStorageSnapshot snapshot, ImmutableSortedDictionary<byte[], byte[]> state) = _snapshots[index];
        for (int number = 0; number < 10; number++)
        {
            byte[] key = RandomKey();
            run.SameOrAbsent(state.GetValueOrDefault(key), run.Get(_engine, key, snapshot), $"operation {_operation}, TryGet of {ConformanceRun.Show(key)} at a snapshot");
        }

        CompareScan(snapshot, state);
        if (_snapshots.Count > 5 || run.Random.Next(2) == 0)
        {
            snapshot.Dispose();
            _snapshots.RemoveAt(index);
        }
    }

    private void OpenIterator()
    {
        if (_iterators.Count > 4)
        {
            _iterators[0].Dispose();
            _iterators.RemoveAt(0);
        }

        KeyRange range = RandomRange();
        _iterators.Add(new IteratorModel(run, _engine.Scan(range), range, _state));
    }

    private void WalkIterator()
    {
        if (_iterators.Count == 0)
            return;
        IteratorModel iterator = _iterators[run.Random.Next(_iterators.Count)];
        for (int step = 0; step < 20; step++)
            iterator.Step(run.Random.Next(10), RandomKey(), $"operation {_operation}");
    }

    private async Task RunTransactionAsync()
    {
        ImmutableSortedDictionary<byte[], byte[]> own = _state;
        HashSet<string> written = [];
        IStorageTransaction transaction = await _engine.BeginTransactionAsync(run.CancellationToken).ConfigureAwait(false);
        await using (transaction.ConfigureAwait(false))
        {
            for (int number = run.Random.Next(8); number > 0; number--)
            {
                byte[] key = RandomKey();
                written.Add(Convert.ToHexString(key));
                byte[]? value = run.Random.Next(3) == 0 ? null : RandomValue();
                if (value is null)
                    await transaction.DeleteAsync(key, run.CancellationToken).ConfigureAwait(false);
                else
                    await transaction.PutAsync(key, value, run.CancellationToken).ConfigureAwait(false);
                own = value is null ? own.Remove(key) : own.SetItem(key, value);
            }

            KeyRange range = RandomRange();
            using (IStorageIterator scan = transaction.Scan(range))
            {
                using IteratorModel iterator = new(run, scan, range, own);
                for (int step = 0; step < 20; step++)
                    iterator.Step(run.Random.Next(10), RandomKey(), $"operation {_operation}, in a transaction");
            }

            bool conflicts = false;
            if (run.Random.Next(2) == 0)
            {
                byte[] other = RandomKey(), value = RandomValue();
                await _engine.PutAsync(other, value, run.CancellationToken).ConfigureAwait(false);
                _state = _state.SetItem(other, value);
                conflicts = written.Contains(Convert.ToHexString(other));
                own = own.SetItem(other, value);
            }

            if (conflicts)
            {
                await run.ThrowsAsync<TransactionConflictException>(() => transaction.CommitAsync(run.CancellationToken), $"operation {_operation}, commit with a conflict").ConfigureAwait(false);
            }
            else if (run.Random.Next(4) != 0)
            {
                await transaction.CommitAsync(run.CancellationToken).ConfigureAwait(false);
                _state = own;
            }
        }
    }

    private async Task ReopenAsync()
    {
        Close();
        if (run.Random.Next(3) == 0)
        {
            string copy = Path.Combine(run.Root!, $"copy-{_operation}");
            await _engine.CheckpointAsync(copy, run.CancellationToken).ConfigureAwait(false);
            IStorageEngine opened = await run.OpenAsync(copy).ConfigureAwait(false);
            CompareScan(KeyRange.All, opened, null, _state, $"operation {_operation}, a checkpoint");
            await opened.DisposeAsync().ConfigureAwait(false);
        }

        await _engine.DisposeAsync().ConfigureAwait(false);
        _engine = await run.OpenAsync().ConfigureAwait(false);
        CompareAll($"operation {_operation}, opened again");
    }

    private KeyRange RandomRange() => run.Random.Next(6) switch
    {
        0 => KeyRange.All,
        1 => KeyRange.From(RandomKey()),
        2 => KeyRange.Prefix(RandomKey()),
        _ => KeyRange.Between(RandomKey(), RandomKey()),
    };

    private byte[] RandomKey()
    {
        byte[] key = new byte[run.Random.Next(5)];
        for (int at = 0; at < key.Length; at++)
            key[at] = s_alphabet[run.Random.Next(s_alphabet.Length)];
        return run.Random.Next(12) == 0 ? [.. key, .. new byte[run.Random.Next(700)]] : key;
    }

    private byte[] RandomValue()
    {
        byte[] value = new byte[run.Random.Next(15) == 0 ? run.Random.Next(9000) : run.Random.Next(40)];
        run.Random.NextBytes(value);
        return value;
    }
}

/// <summary>The order of keys: unsigned bytes.</summary>
internal sealed class KeyOrder : IComparer<byte[]>
{
    public static KeyOrder Instance { get; } = new();

    public int Compare(byte[]? x, byte[]? y) => x.AsSpan().SequenceCompareTo(y);
}

/// <summary>An iterator, and beside it a position in the entries it should show.</summary>
internal sealed class IteratorModel(ConformanceRun run, IStorageIterator iterator, KeyRange range, ImmutableSortedDictionary<byte[], byte[]> state) : IDisposable
{
    private readonly KeyValuePair<byte[], byte[]>[] _entries = [.. state.Where(e => range.Contains(e.Key))];
    private bool _started;
    private int? _at;

    public void Step(int choice, byte[] key, string when)
    {
        (string what, bool moved, int next) = choice switch
        {
            < 3 => ("MoveNext", iterator.MoveNext(), _at is { } at ? at + 1 : _started ? -1 : 0),
            < 6 => ("MovePrevious", iterator.MovePrevious(), _at is { } at ? at - 1 : -1),
            6 => ("SeekFirst", iterator.SeekFirst(), 0),
            7 => ("SeekLast", iterator.SeekLast(), _entries.Length - 1),
            8 => ("Seek", iterator.Seek(key), CountBelow(key)),
            _ => ("SeekForPrevious", iterator.SeekForPrevious(key), CountBelow([.. key, 0]) - 1),
        };
        string step = $"{when}, {what} {ConformanceRun.Show(key)} in {range} from entry {_at?.ToString() ?? "none"} of {_entries.Length}";
        _started = true;
        _at = next >= 0 && next < _entries.Length ? next : null;
        run.Equal(_at is not null, moved, step);
        if (_at is not { } index)
            return;
        run.Same(_entries[index].Key, iterator.Key, step + ", key");
        run.Same(_entries[index].Value, iterator.Value, step + ", value");
    }

    public void Dispose() => iterator.Dispose();

    private int CountBelow(byte[] key) => _entries.Count(e => KeyOrder.Instance.Compare(e.Key, key) < 0);
}
