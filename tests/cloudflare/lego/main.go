// lego's Cloudflare provider, name by name as lego drives it: lego-cloudflare DNS NAME...
//
// It presents a value for each name and then cleans all of them up. DNS is the resolver that it finds zones by;
// CLOUDFLARE_BASE_URL and CLOUDFLARE_DNS_API_TOKEN say where the API is and who asks. A line on standard input lets it
// begin to clean up.
package main

import (
	"bufio"
	"fmt"
	"log"
	"os"

	"github.com/go-acme/lego/v4/challenge/dns01"
	"github.com/go-acme/lego/v4/providers/dns/cloudflare"
)

func main() {
	resolver, names := os.Args[1], os.Args[2:]
	if err := dns01.AddRecursiveNameservers([]string{resolver})(nil); err != nil {
		log.Fatal(err)
	}
	provider, err := cloudflare.NewDNSProvider()
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range names {
		if err := provider.Present(name, "token of "+name, "key authorization"); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println("presented")
	bufio.NewReader(os.Stdin).ReadString('\n')
	for _, name := range names {
		if err := provider.CleanUp(name, "token of "+name, "key authorization"); err != nil {
			log.Fatal(err)
		}
	}
}
