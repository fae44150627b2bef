using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using ShardForge.Storage;

namespace ShardForge.Testing;

/// <summary>What a conformance case works with: the factory, a directory, seeded randomness, and checks that say what differed.</summary>
internal sealed class ConformanceRun(string caseName, IStorageEngineFactory factory, string? directory, int seed, CancellationToken cancellationToken)
{
    private readonly List<IStorageEngine> _opened = [];

    public string? Root => directory;

    public CancellationToken CancellationToken => cancellationToken;

    public Random Random { get; } = new(seed);

    /// <summary>Opens the engine of the case, in the same place each time.</summary>
    public Task<IStorageEngine> OpenAsync() => OpenAsync(directory is null ? null : Path.Combine(directory, "engine"));

    public async Task<IStorageEngine> OpenAsync(string? engineDirectory)
    {
        IStorageEngine engine = await factory.OpenAsync(engineDirectory, cancellationToken).ConfigureAwait(false);
        _opened.Add(engine);
        return engine;
    }

    public async Task<IStorageEngine> OpenAsync(StorageEngineContext context)
    {
        IStorageEngine engine = await factory.OpenAsync(context, cancellationToken).ConfigureAwait(false);
        _opened.Add(engine);
        return engine;
    }

    public async ValueTask OpenCancelledAsync() =>
        _opened.Add(await factory.OpenAsync(Path.Combine(directory!, "engine"), new CancellationToken(canceled: true)).ConfigureAwait(false));

    public async Task CloseAllAsync()
    {
        foreach (IStorageEngine engine in _opened)
            await engine.DisposeAsync().ConfigureAwait(false);
    }

    [DoesNotReturn]
    public void Fail(string difference) => throw new ConformanceException(caseName, seed, difference);

    public void True([DoesNotReturnIf(false)] bool holds, string difference)
    {
        if (!holds)
            Fail(difference);
    }

    public void Equal<T>(T expected, T actual, string what)
    {
        if (!EqualityComparer<T>.Default.Equals(expected, actual))
            Fail($"{what}: expected {expected}, got {actual}");
    }

    public void Same(ReadOnlySpan<byte> expected, ReadOnlySpan<byte> actual, string what)
    {
        if (!expected.SequenceEqual(actual))
            Fail($"{what}: expected {Show(expected)}, got {Show(actual)}");
    }

    public void SameOrAbsent(byte[]? expected, byte[]? actual, string what)
    {
        if (expected is null || actual is null)
            True(expected is null && actual is null, $"{what}: expected {(expected is null ? "absent" : Show(expected))}, got {(actual is null ? "absent" : Show(actual))}");
        else
            Same(expected, actual, what);
    }

    /// <summary>Reads a key in both ways there are and checks that they agree with what is expected.</summary>
    public async Task ReadsAsync(IStorageEngine engine, byte[] key, byte[]? expected, string what)
    {
        SameOrAbsent(expected, await engine.GetAsync(key, cancellationToken).ConfigureAwait(false), $"{what}: GetAsync of {Show(key)}");
        SameOrAbsent(expected, Get(engine, key, null), $"{what}: TryGet of {Show(key)}");
    }

    public void ReadsAt(IStorageEngine engine, IStorageSnapshot snapshot, byte[] key, byte[]? expected, string what) =>
        SameOrAbsent(expected, Get(engine, key, snapshot), $"{what}: TryGet of {Show(key)} at a snapshot");

    public byte[]? Get(IStorageEngine engine, byte[] key, IStorageSnapshot? snapshot)
    {
        ArrayBufferWriter<byte> value = new();
        if (engine.TryGet(key, value, snapshot))
            return value.WrittenSpan.ToArray();
        Equal(0, value.WrittenCount, $"bytes written for the absent key {Show(key)}");
        return null;
    }

    /// <summary>Checks that a scan gives the keys, forwards and backwards.</summary>
    public void Scans(IStorageEngine engine, KeyRange range, IStorageSnapshot? snapshot, string what, params ReadOnlySpan<byte[]> expected)
    {
        using IStorageIterator iterator = engine.Scan(range, snapshot is null ? null : new StorageScanOptions { Snapshot = snapshot });
        Walks(iterator, what, expected);
    }

    public void Walks(IStorageIterator iterator, string what, params ReadOnlySpan<byte[]> expected)
    {
        for (int at = 0; at < expected.Length; at++)
        {
            True(at == 0 ? iterator.SeekFirst() : iterator.MoveNext(), $"{what}: ends before entry {at} of {expected.Length}, {Show(expected[at])}");
            Same(expected[at], iterator.Key, $"{what}: entry {at} forwards");
        }

        True(expected.Length == 0 ? !iterator.SeekFirst() : !iterator.MoveNext(), $"{what}: more than {expected.Length} entries forwards");
        for (int at = expected.Length - 1; at >= 0; at--)
        {
            True(at == expected.Length - 1 ? iterator.SeekLast() : iterator.MovePrevious(), $"{what}: ends backwards before entry {at}, {Show(expected[at])}");
            Same(expected[at], iterator.Key, $"{what}: entry {at} backwards");
        }

        True(expected.Length == 0 ? !iterator.SeekLast() : !iterator.MovePrevious(), $"{what}: more than {expected.Length} entries backwards");
    }

    public async Task<TError> ThrowsAsync<TError>(Func<ValueTask> call, string what)
        where TError : Exception
    {
        try
        {
            await call().ConfigureAwait(false);
        }
        catch (TError error)
        {
            return error;
        }
        catch (Exception error)
        {
            Fail($"{what}: expected {typeof(TError).Name}, got {error.GetType().Name}: {error.Message}");
        }

        Fail($"{what}: expected {typeof(TError).Name}, and it succeeded");
        return null!;
    }

    public Task<TError> ThrowsAsync<TError>(Action call, string what)
        where TError : Exception => ThrowsAsync<TError>(() =>
        {
            call();
            return ValueTask.CompletedTask;
        }, what);

    /// <summary>Runs blocking code on a thread of its own.</summary>
    public static Task OnThread(Action body)
    {
        TaskCompletionSource done = new(TaskCreationOptions.RunContinuationsAsynchronously);
        new Thread(() =>
        {
            try
            {
                body();
            }
            catch (Exception error)
            {
                done.SetException(error);
                return;
            }

            done.SetResult();
        })
        { Name = "shardforge-conformance", IsBackground = true }.Start();
        return done.Task;
    }

    public static string Show(ReadOnlySpan<byte> bytes) =>
        bytes.Length <= 24 ? $"[{Convert.ToHexString(bytes)}]" : $"[{Convert.ToHexString(bytes[..24])}…, {bytes.Length:N0} bytes]";
}
