namespace ShardForge.Common;

/// <summary>The two calls that block their caller by contract: <c>Open</c> and <c>Dispose</c>. Whoever does not want that has the ones that end in <c>Async</c>.</summary>
internal static class Blocking
{
    /// <summary>Runs the work and blocks the caller's thread until it has ended. Nothing of the library resumes on the caller's context, so there is no deadlock.</summary>
    public static T Run<T>(Func<Task<T>> work)
    {
        SynchronizationContext? context = SynchronizationContext.Current;
        SynchronizationContext.SetSynchronizationContext(null);
        try
        {
            return work().GetAwaiter().GetResult();
        }
        finally
        {
            SynchronizationContext.SetSynchronizationContext(context);
        }
    }
}
