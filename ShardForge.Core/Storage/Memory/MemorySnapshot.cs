namespace ShardForge.Storage.Memory;

/// <summary>A hold on one state.</summary>
internal sealed class MemorySnapshot(MemoryEngine engine, MemoryState state) : IStorageSnapshot
{
    private MemoryState? _state = state;

    /// <exception cref="ArgumentException">The snapshot is another engine's.</exception>
    /// <exception cref="ObjectDisposedException">It is disposed.</exception>
    public static MemoryState StateOf(IStorageSnapshot snapshot, MemoryEngine engine)
    {
        if (snapshot is not MemorySnapshot own || own.Engine != engine)
            throw new ArgumentException("The snapshot was taken of another engine.", nameof(snapshot));
        MemoryState? state = own._state;
        ObjectDisposedException.ThrowIf(state is null, typeof(IStorageSnapshot));
        return state;
    }

    private MemoryEngine Engine { get; } = engine;

    public void Dispose() => _state = null;
}

/// <summary>Walks one state.</summary>
internal sealed class MemoryIterator(MemoryEngine engine, MemoryState state, KeyRange range) : RangeIterator(range)
{
    private readonly SortedMapCursor _cursor = state.Map.GetCursor();

    protected override ReadOnlySpan<byte> CurrentKey => _cursor.Key;

    protected override ReadOnlySpan<byte> CurrentValue => _cursor.Value;

    protected override void ThrowIfUnusable()
    {
        base.ThrowIfUnusable();
        engine.ThrowIfDisposed();
    }

    protected override bool ToFirstAtOrAfter(ReadOnlySpan<byte> key) => _cursor.ToFirstAtOrAfter(key);

    protected override bool ToLastAtOrBefore(ReadOnlySpan<byte> key) => _cursor.ToLastAtOrBefore(key);

    protected override bool ToLastBefore(ReadOnlySpan<byte> key) => _cursor.ToLastBefore(key);

    protected override bool ToLast() => _cursor.ToLast();

    protected override bool ToNext() => _cursor.ToNext();

    protected override bool ToPrevious() => _cursor.ToPrevious();

    protected override void Release() => _cursor.Clear();
}
