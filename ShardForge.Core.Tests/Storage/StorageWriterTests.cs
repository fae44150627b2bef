using NUnit.Framework;
using ShardForge.Storage;

namespace ShardForge.Tests.Storage;

internal sealed class StorageWriterTests
{
    [Test]
    public async Task Writes_that_wait_are_committed_as_one_group_in_their_order()
    {
        Committer committer = new();
        await using StorageWriter writer = new("w", committer);
        using ManualResetEventSlim hold = new();
        Task held = writer.RunAsync(hold.Wait, CancellationToken.None).AsTask();
        Task[] writes = [.. Enumerable.Range(0, 10).Select(n => WriteAsync(writer, (byte)n))];
        hold.Set();
        await Task.WhenAll([held, .. writes]);
        Assert.That(committer.Groups, Has.Count.EqualTo(1));
        Assert.That(committer.Groups[0], Is.EqualTo(Enumerable.Range(0, 10).Select(n => (byte)n)));
    }

    [Test]
    public async Task A_refused_write_fails_alone()
    {
        await using StorageWriter writer = new("w", new Committer { Refuses = 2 });
        using ManualResetEventSlim hold = new();
        Task held = writer.RunAsync(hold.Wait, CancellationToken.None).AsTask();
        Task first = WriteAsync(writer, 1), second = WriteAsync(writer, 2), third = WriteAsync(writer, 3);
        hold.Set();
        await Task.WhenAll(held, first, third);
        Assert.ThrowsAsync<TransactionConflictException>(() => second);
    }

    [Test]
    public async Task A_transient_failure_fails_its_group_and_writing_goes_on()
    {
        Committer committer = new() { Failure = new ShardForgeException("full", isTransient: true) };
        await using StorageWriter writer = new("w", committer);
        Assert.That(Assert.ThrowsAsync<ShardForgeException>(() => WriteAsync(writer, 1))!.IsTransient, Is.True);
        committer.Failure = null;
        await WriteAsync(writer, 2);
        Assert.That(writer.Failure, Is.Null);
    }

    [Test]
    public async Task Any_other_failure_ends_the_writing_and_says_why()
    {
        Committer committer = new() { Failure = new IOException("the disk said no") };
        await using StorageWriter writer = new("w", committer);
        Assert.ThrowsAsync<OutcomeUnknownException>(() => WriteAsync(writer, 1));
        committer.Failure = null;
        ShardForgeException? later = Assert.ThrowsAsync<ShardForgeException>(() => WriteAsync(writer, 2));
        Assert.That(later!.Message, Does.Contain("the disk said no"));
        Assert.That(committer.Groups, Is.Empty);
        await writer.RunAsync(static () => { }, CancellationToken.None);
    }

    [Test]
    public async Task A_full_queue_refuses()
    {
        await using StorageWriter writer = new("w", new Committer());
        using ManualResetEventSlim hold = new(), started = new();
        Task held = writer.RunAsync(() =>
        {
            started.Set();
            hold.Wait();
        }, CancellationToken.None).AsTask();
        started.Wait();
        StorageBatch large = new();
        byte[] value = new byte[64 * 1024 * 1024];
        for (int number = 0; number < 3; number++)
            large.Put([(byte)number], value);
        Task first = writer.WriteAsync(large, StorageDurability.Buffered, null, CancellationToken.None).AsTask();
        Assert.ThrowsAsync<OverloadedException>(() => writer.WriteAsync(large, StorageDurability.Buffered, null, CancellationToken.None).AsTask());
        hold.Set();
        await Task.WhenAll(held, first);
    }

    [Test]
    public async Task A_caller_that_stops_waiting_may_change_its_batch()
    {
        Committer committer = new();
        await using StorageWriter writer = new("w", committer);
        using ManualResetEventSlim hold = new();
        using CancellationTokenSource stop = new();
        Task held = writer.RunAsync(hold.Wait, CancellationToken.None).AsTask();
        StorageBatch batch = new();
        batch.Put([7], []);
        Task write = writer.WriteAsync(batch, StorageDurability.Buffered, null, stop.Token).AsTask();
        await stop.CancelAsync();
        Assert.CatchAsync<OperationCanceledException>(() => write);
        batch.Clear();
        batch.Put([8], []);
        hold.Set();
        await held;
        await writer.RunAsync(static () => { }, CancellationToken.None);
        Assert.That(committer.Groups.SelectMany(g => g), Is.EqualTo(new byte[] { 7 }));
    }

    [Test]
    public async Task Dispose_finishes_what_is_queued_and_refuses_the_rest()
    {
        Committer committer = new();
        StorageWriter writer = new("w", committer);
        Task write = WriteAsync(writer, 1);
        await writer.DisposeAsync();
        await writer.DisposeAsync();
        await write;
        Assert.ThrowsAsync<ObjectDisposedException>(() => WriteAsync(writer, 2));
        Assert.That(committer.Groups, Has.Count.EqualTo(1));
    }

    private static async Task WriteAsync(StorageWriter writer, byte key)
    {
        StorageBatch batch = new();
        batch.Put([key], []);
        await writer.WriteAsync(batch, StorageDurability.Buffered, null, CancellationToken.None);
    }

    private sealed class Committer : IStorageCommitter
    {
        public List<byte[]> Groups { get; } = [];

        public Exception? Failure { get; set; }

        public byte? Refuses { get; init; }

        public void Commit(IReadOnlyList<StorageWrite> group)
        {
            if (Failure is not null)
                throw Failure;
            List<byte> keys = [];
            foreach (StorageWrite write in group)
            {
                StorageBatchReader reader = new(write.Encoded.Span);
                reader.MoveNext();
                keys.Add(reader.Key[0]);
                if (reader.Key[0] == Refuses)
                    write.Refusal = new TransactionConflictException("refused");
            }

            Groups.Add([.. keys]);
        }
    }
}
