namespace ShardForge.Tests.Replication;

/// <summary>While it lives, what follows an await runs on the thread that completes it: the test framework's own context would send it to the pool, and a run would not be the same twice.</summary>
internal sealed class InlineContinuations : IDisposable
{
    private readonly SynchronizationContext? _before = SynchronizationContext.Current;

    public InlineContinuations() => SynchronizationContext.SetSynchronizationContext(null);

    public void Dispose() => SynchronizationContext.SetSynchronizationContext(_before);
}
