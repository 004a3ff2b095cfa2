package lint

import "regexp"

// rightAnyway are the mutants that are right, or of which nothing in files can
// tell that they are wrong, by their kind and path and by what was done to them.
var rightAnyway = func() (out []struct {
	path, how *regexp.Regexp
	because   string
}) {
	const letter = "another case|with a letter too many"
	for _, h := range []struct{ path, how, because string }{
		{`\.(ports|listeners|rules|metrics|notifications)\[\]\.name$`, "with a letter too many|empty", "a name that nothing else refers to may be any"},
		{`\.matches\[\]\.headers\[\]\.name$|cohort\.header$|hash\.header$|sessionPersistence\.header\.name$`, "another case", "names of headers are the same in capitals"},
		{`\.targetRefs\[\]\.sectionName$`, "empty", "an empty sectionName means the whole target, as without it"},
		{`Service spec\.ports\[\]\.targetPort$`, "another type|zero", "a name or none is right; only the pods know their ports' names"},
		{`EndpointSlice endpoints$`, "empty", "a Service that is scaled to nothing has such a slice"},
		{`EndpointSlice endpoints\[\]\.conditions$`, "empty", "conditions that are not stated mean ready"},
		{`EndpointSlice endpoints\[\]\.(targetRef|nodeName)`, letter + "|empty", "it names the endpoint in what is shown, and traffic does not depend on it"},
		{`EndpointSlice endpoints\[\]\.zone$`, "with a letter too many", "zones have the names that a provider gives them"},
		{`ConfigMap data\.ca\.crt$`, "with ", "what stands after the last certificate is no part of one"},
		{`connectionPool\.max`, "a thousand times", "the limit is at most the default, 100,000"},
		{`backendRefs\[\]\.weight$`, "zero", "weight 0 takes a backend out, and others have the requests"},
		{`Mesh spec$`, "empty", "all of a Mesh is optional"},
		{`replacePrefixMatch$`, "empty", "an empty prefix means /"},
		{`TrafficShift spec\.steps\[\]\.hold$`, "of another unit", "a step may hold for hours"},
		{`connectionAge$|absoluteTimeout$|cookie\.ttl$|errorBudget\.period$`, "of another unit", "hours are as good as minutes for it"},
		{`keepSourcePercent$|minReadyPods$`, "zero", "0 asks for none, which is documented"},
		{`removalGuard\.maxPercent$`, "zero", "one instance at a time may still go"},
		{`InstanceGroup spec\.healthCheck$|TrafficPolicy spec\.healthCheck$`, "empty", "an empty health check is a TCP connect"},
		{`InstanceGroup spec\.selector\.tags\.`, "empty", "a tag of EC2 may have an empty value"},
		{`guard\.minRequests$`, "a thousand times", "a busy Service has so many in ten minutes"},
		{`metrics\[\]\.(atMost|atLeast)$`, "in quotes|one thousandth", "only who has the figure knows what it is in good times"},
		{`prometheus\.address$|notifications\[\]\.url$`, "another case", "schemes and hosts are the same in capitals"},
		{`query$`, "with a space", "a space at the end of a query means nothing"},
		{`tls\.options\.`, letter, "only the edges' hosts know the file"},
		{`selector\.(tags|autoScalingGroups)`, letter + "|misspelt", "only EC2 knows its tags and groups"},
		{`matches\[\]\.(path\.value|method\.(method|service)|headers\[\]\.(value|name)|queryParams\[\]\.(value|name))$`, letter, "only the application knows its paths, methods and parameters"},
		{`(replacePrefixMatch|replaceFullPath|http\.path)$`, letter, "only the application knows its paths"},
		{`cookie\.name$|cohort\.header$|hash\.header$|header\.name$`, letter, "only the application knows its cookies and headers"},
		{`(hostname|hosts\[\]|sni|subjectAltNames\[\]|http\.host|externalName)$`, letter, "only DNS and certificates know host names"},
		{`(horizontalPodAutoscaler|secretName)$`, "with a letter too many", "only the cluster knows them: they are in no file that the mesh reads"},
	} {
		out = append(out, struct {
			path, how *regexp.Regexp
			because   string
		}{regexp.MustCompile(h.path), regexp.MustCompile(h.how), h.because})
	}
	return out
}()
