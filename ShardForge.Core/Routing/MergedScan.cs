using System.Runtime.CompilerServices;
using ShardForge.Common;
using ShardForge.Replication;

namespace ShardForge.Routing;

/// <summary>A range over all shards as one ordered stream, as of one timestamp: a merge of one cursor per shard.</summary>
/// <remarks>
/// Keys are spread over shards by hash, so every shard may hold keys of the range, and each key is in exactly one. Cursors fetch a page at a time;
/// the first pages are asked for together. Memory: at most two pages per shard.
/// <para>Each move has its own deadline. A page that cannot be had throws; the stream never ends early as if complete.</para>
/// </remarks>
[System.Diagnostics.CodeAnalysis.SuppressMessage("Reliability", "CA2025", Justification = "All fetches are awaited before their deadline goes.")]
internal sealed class MergedScan(Router router, ScanSettings settings)
{
    private readonly Router _router = router;
    private readonly ScanSettings _settings = settings;

    public async IAsyncEnumerable<KeyValuePair<byte[], byte[]>> RunAsync(
        KeyRange range, Func<Deadline, ValueTask<Timestamp>> takeSnapshot, bool reverse, int pageEntriesMax, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (range.IsEmpty)
            yield break;

        List<ShardCursor> cursors = [];
        using (Deadline deadline = _settings.StartDeadline(cancellationToken))
        {
            ShardMap map;
            Timestamp readAt;
            try
            {
                map = await _router.GetMapAsync(deadline).ConfigureAwait(false);
                readAt = await takeSnapshot(deadline).ConfigureAwait(false);
            }
            catch (OperationCanceledException error)
            {
                deadline.ThrowIfCallerCancelled(error);
                throw new ShardUnavailableException($"No snapshot for the scan within {deadline.Limit.TotalSeconds:0.###} s: the oracle's leader was not reached.", error);
            }

            if (map.PartitionRule.SlotOf(range) is { } slot)
            {
                cursors.Add(new ShardCursor(this, map.Find(slot), range, readAt, reverse, pageEntriesMax));
            }
            else
            {
                foreach (ShardRoute shard in map.Shards)
                    cursors.Add(new ShardCursor(this, shard, range, readAt, reverse, pageEntriesMax));
            }

            Task[] first = new Task[cursors.Count];
            for (int i = 0; i < cursors.Count; i++)
                first[i] = cursors[i].FetchAsync(deadline);
            await Task.WhenAll(first).ConfigureAwait(false);
        }

        PriorityQueue<ShardCursor, byte[]> order = new(reverse ? ReverseOrder.Instance : ByteOrder.Instance);
        foreach (ShardCursor cursor in cursors)
        {
            if (cursor.HasCurrent)
                order.Enqueue(cursor, cursor.Current.Key);
        }

        while (order.TryPeek(out ShardCursor? next, out _))
        {
            cancellationToken.ThrowIfCancellationRequested();
            yield return next.Current;
            if (!next.TryAdvance())
            {
                using Deadline deadline = _settings.StartDeadline(cancellationToken);
                await next.FetchAsync(deadline).ConfigureAwait(false);
            }

            if (next.HasCurrent)
                order.DequeueEnqueue(next, next.Current.Key);
            else
                order.Dequeue();
        }
    }

    /// <summary>Reads one shard's part of the range, a page at a time.</summary>
    private sealed class ShardCursor(MergedScan scan, ShardRoute shard, KeyRange range, Timestamp readAt, bool reverse, int pageEntriesMax)
    {
        private KeyRange _rest = range;
        private IReadOnlyList<KeyValuePair<byte[], byte[]>> _page = [];
        private int _at;
        private bool _hasMore = true;

        public bool HasCurrent => _at < _page.Count;

        public KeyValuePair<byte[], byte[]> Current => _page[_at];

        /// <summary>False: the page is used up and another has to be fetched.</summary>
        public bool TryAdvance()
        {
            _at++;
            return _at < _page.Count || !_hasMore;
        }

        public async Task FetchAsync(Deadline deadline)
        {
            ScanRequest request = new()
            {
                Shard = shard.Shard,
                Epoch = shard.Epoch,
                Range = _rest,
                ReadAt = readAt,
                Reverse = reverse,
                EntriesMax = pageEntriesMax,
                BytesMax = scan._settings.PageBytesMax,
            };
            ShardResponse response = await scan._router.ReadAsync(request, static (scan, map) => map.Find(scan.Shard), deadline).ConfigureAwait(false);
            _page = response.Entries;
            _at = 0;
            _hasMore = response.HasMore;
            if (_page.Count > 0)
                _rest = Behind(_page[^1].Key);
        }

        private KeyRange Behind(byte[] key)
        {
            if (reverse)
                return KeyRange.Between(_rest.Start, key);
            byte[] start = new byte[key.Length + 1];
            key.CopyTo(start, 0);
            return _rest.HasEnd ? KeyRange.Between(start, _rest.End) : KeyRange.From(start);
        }
    }

    private sealed class ReverseOrder : IComparer<byte[]>
    {
        public static ReverseOrder Instance { get; } = new();

        public int Compare(byte[]? x, byte[]? y) => y.AsSpan().SequenceCompareTo(x);
    }
}

/// <summary>Bounds of a scan.</summary>
/// <param name="StartDeadline">Makes the deadline of one move.</param>
/// <param name="PageBytesMax">Bytes in a page.</param>
internal sealed record ScanSettings(Func<CancellationToken, Deadline> StartDeadline, int PageBytesMax);
